//! Man pages and completions: one for every command, and the tools that read them have nothing to complain of.

use std::collections::BTreeSet;
use std::path::Path;

use understudy_tests::{Lab, Run, UNDERSTUDY, UNDERSTUDYD, args};

/// The commands that `--help` of a program, or of one of its commands, names.
fn commands(program: &str, path: &[String]) -> Vec<String> {
    let words = path.iter().map(|word| word.into()).chain(args!["--help"]);
    let help = Run::ours(program).args(words).run().expect_code(0).out();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// The pages that there are to be: of the program, of each command, and of what that has.
fn expected(program: &str) -> BTreeSet<String> {
    let mut pages = BTreeSet::from([format!("{program}.1")]);
    for command in commands(program, &[]) {
        pages.insert(format!("{program}-{command}.1"));
        for part in commands(program, std::slice::from_ref(&command)) {
            pages.insert(format!("{program}-{command}-{part}.1"));
        }
    }
    pages
}

fn files(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).expect("the pages");
    entries.map(|entry| entry.expect("a page").file_name().display().to_string()).collect()
}

#[test]
fn every_command_has_a_page_that_renders() {
    for program in [UNDERSTUDY, UNDERSTUDYD] {
        let lab = Lab::new();
        let dir = lab.file("man");
        Run::ours(program).args(args!["man", &dir]).run().expect_code(0);
        let (pages, expected) = (files(&dir), expected(program));
        assert!(expected.len() > 8, "{program}: {expected:?}");
        assert_eq!(pages, expected, "{program}");
        for page in pages {
            // A date there is none, on purpose: the same program makes the same pages. An empty line before a list is no mistake.
            let rendered = Run::peer("mandoc").args(args!["-T", "utf8", "-W", "warning", dir.join(&page)]).run();
            let text = rendered.all();
            let complaints: Vec<&str> =
                text.lines().filter(|line| line.contains(": WARNING:") || line.contains(": ERROR:")).collect();
            let real: Vec<_> = complaints
                .iter()
                .filter(|line| !line.contains(" date, ") && !line.contains("paragraph macro: br"))
                .collect();
            assert!(real.is_empty(), "{page}: {real:?}");
        }
    }
}

#[test]
fn completions_are_what_the_shells_understand() {
    for program in [UNDERSTUDY, UNDERSTUDYD] {
        let lab = Lab::new();
        for shell in ["bash", "zsh", "fish"] {
            let script = Run::ours(program).args(args!["completions", shell]).run().expect_code(0).out();
            assert!(script.contains(program), "{shell}: {script}");
            if shell == "bash" {
                let file = lab.write("completions", &script);
                Run::peer("bash").args(args!["-n", file]).run().expect_code(0);
            }
        }
    }
    Run::ours(UNDERSTUDYD).args(args!["completions", "no-shell"]).run().expect_code(2);
}
