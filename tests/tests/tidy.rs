//! House rules that no compiler checks, held against every file of the repository.
//!
//! A rule is a function from a file to complaints; all complaints of all files are shown at once.

use std::fs;
use std::path::{Path, PathBuf};

const SOURCE_LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 800;

/// What may stand at the top of the repository.
const TOP: [&str; 20] = [
    "Cargo.toml",
    "Cargo.lock",
    "appliance",
    "initiator",
    "format",
    "tools",
    "images",
    "tests",
    "README.md",
    "ARCHITECTURE.md",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "deny.toml",
    "clippy.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
    ".ci",
    ".gitignore",
];
/// What is beside the repository's own content.
const IGNORED: [&str; 2] = [".git", "target"];
/// What cargo-fuzz keeps beside the targets; none of it is in the repository.
const FUZZ_LEFTOVERS: [&str; 3] = ["corpus", "artifacts", "coverage"];

struct Page {
    path: PathBuf,
    name: String,
    text: String,
}

impl Page {
    fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    fn complain(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.name)
    }
}

#[test]
fn the_top_level_has_only_what_belongs_there() {
    let entries = fs::read_dir(root()).expect("the repository");
    let names = entries.map(|entry| entry.expect("an entry").file_name().display().to_string());
    let strangers: Vec<String> =
        names.filter(|name| !TOP.contains(&name.as_str()) && !IGNORED.contains(&name.as_str())).collect();
    assert!(strangers.is_empty(), "not known at the top level: {strangers:?}");
}

#[test]
fn every_source_file_opens_with_its_story() {
    check(|page| {
        let opens = page.text.starts_with("//!");
        let wrong = page.has_extension("rs") && !opens;
        wrong.then(|| page.complain(1, "opens without `//!`: what is it for?")).into_iter().collect()
    });
}

#[test]
fn no_source_file_is_too_long() {
    check(|page| {
        let tests = page.name.starts_with("tests/") || page.name.contains("/tests/");
        let limit = if tests { TEST_LINES_MAX } else { SOURCE_LINES_MAX };
        let lines = page.text.lines().count();
        let wrong = page.has_extension("rs") && lines > limit;
        wrong.then(|| page.complain(lines, &format!("longer than {limit} lines"))).into_iter().collect()
    });
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    let words = [concat!("to", "do!("), concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    check(|page| {
        let source = page.has_extension("rs");
        let lines = page.lines().filter(|(_, line)| source && words.iter().any(|word| line.contains(word)));
        lines.map(|(line, _)| page.complain(line, "left for later: do it, or write it down as an issue")).collect()
    });
}

#[test]
fn no_tabs_and_no_trailing_spaces() {
    check(|page| {
        let tabs = page.name.ends_with("Makefile");
        let lines = page.lines();
        let wrong = lines.filter(|(_, line)| line.ends_with([' ', '\t', '\r']) || (!tabs && line.contains('\t')));
        wrong.map(|(line, _)| page.complain(line, "a tab, or spaces at the end of the line")).collect()
    });
}

#[test]
fn every_file_ends_with_one_newline() {
    check(|page| {
        let right = page.text.is_empty() || (page.text.ends_with('\n') && !page.text.ends_with("\n\n"));
        (!right)
            .then(|| page.complain(page.text.lines().count(), "ends without exactly one newline"))
            .into_iter()
            .collect()
    });
}

#[test]
fn nothing_names_a_place_on_somebodys_machine() {
    let places = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    check(|page| {
        let lines = page.lines().filter(|(_, line)| places.iter().any(|place| names_place(line, place)));
        lines.map(|(line, _)| page.complain(line, "a path of somebody's machine")).collect()
    });
}

/// Whether the line has the place as the beginning of a path, not in the middle of one (`target/home/`, a URL).
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '.'))
}

#[test]
fn every_link_in_the_docs_leads_to_a_file() {
    check(|page| {
        let docs = page.has_extension("md");
        let links = page.lines().filter(|_| docs).flat_map(|(line, text)| links(text).map(move |link| (line, link)));
        let dead = links.filter(|(_, link)| leads_nowhere(&page.path, link));
        dead.map(|(line, link)| page.complain(line, &format!("the link {link} leads to no file"))).collect()
    });
}

/// The targets of `[text](target)` in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

fn leads_nowhere(page: &Path, link: &str) -> bool {
    let file = link.split('#').next().unwrap_or_default();
    let elsewhere = link.contains("://") || link.starts_with("mailto:") || file.is_empty();
    !elsewhere && !page.parent().expect("a page is in a directory").join(file).exists()
}

#[track_caller]
fn check(rule: impl Fn(&Page) -> Vec<String>) {
    let complaints: Vec<String> = pages().iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// Every text file that people write.
fn pages() -> Vec<Page> {
    let root = root();
    let (mut pages, mut open) = (Vec::new(), vec![root.clone()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry")) {
            let (path, name) = (entry.path(), entry.file_name().display().to_string());
            let kind = entry.file_type().expect("a file type");
            if kind.is_dir() && !IGNORED.contains(&name.as_str()) && !FUZZ_LEFTOVERS.contains(&name.as_str()) {
                open.push(path);
            } else if kind.is_file() && is_written_by_people(&path, &name) {
                let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let name = path.strip_prefix(&root).expect("a file of the repository").display().to_string();
                pages.push(Page { path, name, text });
            }
        }
    }
    assert!(pages.len() > 20, "only {} files found: the rules were held against nothing", pages.len());
    pages
}

fn is_written_by_people(path: &Path, name: &str) -> bool {
    let script = path.parent().and_then(Path::file_name).is_some_and(|dir| dir == ".ci");
    let kind =
        path.extension().is_some_and(|kind| ["rs", "md", "toml", "sh", "yaml", "yml"].iter().any(|it| kind == *it));
    script || kind || name == "Makefile"
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the repository").to_path_buf()
}
