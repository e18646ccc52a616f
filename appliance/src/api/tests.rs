//! Options as they are typed and as they are sent.

use super::options::{self, Options};
use crate::args::{Cli, Command};
use clap::CommandFactory;
use serde_json::{Value, json};

/// The command and its options, as the client makes them of what was typed.
fn typed(line: &str) -> (String, Options) {
    let words = ["understudyd"].into_iter().chain(line.split(' '));
    let matches = Cli::command().try_get_matches_from(words).expect("a right command");
    let (name, matches) = matches.subcommand().expect("a command");
    let command = options::commands().into_iter().find(|command| command.get_name() == name).expect("one for a daemon");
    (name.to_owned(), options::typed(&command, matches))
}

fn object(value: Value) -> Options {
    value.as_object().expect("an object").clone()
}

#[track_caller]
fn check(line: &str, expected: Value) {
    let (name, options) = typed(line);
    assert_eq!(Value::from(options.clone()), expected, "{line}");
    let there = format!("{:?}", options::read(&name, &options).expect("it is understood"));
    let here = Cli::try_parse_from_words(line);
    assert_eq!(there, here, "the daemon understands the same");
}

impl Cli {
    fn try_parse_from_words(line: &str) -> String {
        use clap::Parser;
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words = ["understudyd", name, "--pool=.", "--json"].into_iter().chain(rest.split(' '));
        let words = words.filter(|word| !word.is_empty() && *word != "--pool=p");
        format!("{:?}", Self::try_parse_from(words).expect("a right command").command)
    }
}

#[test]
fn what_was_typed_is_what_is_done() {
    check("prune --pool=p", json!({}));
    check(
        "prune --pool=p a b --keep-last=3 --keep-within=7d --dry-run",
        json!({"volumes": ["a", "b"], "keep_last": 3, "keep_within": "7d", "dry_run": true}),
    );
    check("scrub --pool=p --rate=50M --older-than=7d", json!({"rate": 52_428_800, "older_than": "7d"}));
    check("remove --pool=p --force v@1", json!({"name": "v@1", "force": true}));
    check("set --pool=p v --secondary=/dev/vg/x", json!({"volume": "v", "secondary": "/dev/vg/x"}));
    check("protect --pool=p v@1 v@2", json!({"points": ["v@1", "v@2"]}));
    check("collect --pool=p --dead-max=0", json!({"dead_max": 0}));
    check("next --pool=p --count=3 night", json!({"job": "night", "count": 3}));
    check("run --pool=p night", json!({"job": "night"}));
}

#[test]
fn what_nobody_could_type_is_refused() {
    let refused = |name: &str, options: Value, why: &str| {
        let reason = options::read(name, &object(options)).unwrap_err();
        assert!(reason.contains(why), "{reason}");
    };
    refused("reindex", json!({}), "there is no command reindex");
    refused("serve", json!({}), "there is no command serve");
    refused("collect", json!({"dead": 1}), "unknown key \"dead\"; accepted here: dead_max, dry_run");
    refused("collect", json!({"pool": "/srv"}), "unknown key \"pool\"");
    refused("collect", json!({"dead_max": "1"}), "dead_max: expected a whole number");
    refused("collect", json!({"dead_max": 100}), "100 is not in 0..=99");
    refused("collect", json!({"dry_run": 1}), "dry_run: expected true or false");
    refused("scrub", json!({"rate": 0}), "expected at least 64K");
    refused("protect", json!({"points": "v@1"}), "points: expected a list of texts");
    refused("protect", json!({}), "<NAME@POINT>");
    refused("prune", json!({"volumes": ["a/b"]}), "a/b");
}

#[test]
fn an_option_is_never_taken_for_another() {
    let words = json!({"name": "--force"});
    match options::read("remove", &object(words)).expect("a name, however odd") {
        Command::Upkeep(crate::args::Upkeep::Remove(remove)) => {
            assert_eq!((remove.name.as_str(), remove.force), ("--force", false));
        }
        other => panic!("{other:?}"),
    }
    assert!(options::read("prune", &object(json!({"time_zone": "--collect"}))).is_ok());
    let off = options::read("remove", &object(json!({"name": "v", "force": false}))).expect("a right command");
    assert!(format!("{off:?}").contains("force: false"));
}
