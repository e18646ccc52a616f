//! The options of a command as a JSON object, by the table that the command line is read by.
//!
//! So what a command takes is said once, in [`crate::args`]: people type it, the API and its document have it under the same
//! names, with `_` for `-`. Invariant: an object that is accepted is exactly what somebody could have typed; the pool is the daemon's.

use crate::agents::args::OfAgents;
use crate::args::{Cli, Clients, Command, Jobs, Upkeep};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Parser, Subcommand};
use serde_json::{Map, Value, json};
use std::any::TypeId;

/// The options of a command, by their names.
pub type Options = Map<String, Value>;

/// What a running daemon is never asked to do.
const NOT_BESIDE_A_DAEMON: &str = "reindex";
/// Where a command works and how it tells, which is not the daemon's to be told.
const PLACE: [&str; 2] = ["pool", "json"];

/// The commands that a daemon carries out.
pub fn commands() -> Vec<clap::Command> {
    let all = Jobs::augment_subcommands(Clients::augment_subcommands(clap::Command::new("understudyd")));
    let all = OfAgents::augment_subcommands(Upkeep::augment_subcommands(all));
    let asked = |command: &&clap::Command| command.get_name() != NOT_BESIDE_A_DAEMON;
    all.get_subcommands().filter(asked).cloned().collect()
}

/// What a command takes.
pub fn arguments(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !PLACE.contains(&arg.get_id().as_str()))
}

/// The options that were typed for a command, of what was read from the command line.
pub fn typed(command: &clap::Command, matches: &ArgMatches) -> Options {
    let given = |arg: &&Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let option = |arg: &Arg| (arg.get_id().to_string(), typed_value(arg, matches));
    arguments(command).filter(given).map(option).collect()
}

fn typed_value(arg: &Arg, matches: &ArgMatches) -> Value {
    let id = arg.get_id().as_str();
    let texts = || matches.get_raw(id).into_iter().flatten().map(|text| text.to_string_lossy().into_owned());
    match Form::of(arg) {
        Form::Flag => true.into(),
        Form::List => texts().collect(),
        Form::Text => texts().next().unwrap_or_default().into(),
        Form::Number => number(arg, matches).unwrap_or_default().into(),
    }
}

/// A number, whatever it was written as (50M) and whatever its size.
fn number(arg: &Arg, matches: &ArgMatches) -> Option<u64> {
    fn get<T: Copy + Into<u64> + Send + Sync + 'static>(matches: &ArgMatches, id: &str) -> Option<u64> {
        matches.try_get_one::<T>(id).ok().flatten().map(|number| (*number).into())
    }
    let id = arg.get_id().as_str();
    get::<u64>(matches, id).or(get::<u32>(matches, id)).or(get::<u16>(matches, id)).or(get::<u8>(matches, id))
}

/// The command that is asked for, as it would have been typed; or what is wrong with it.
pub fn read(name: &str, options: &Options) -> Result<Command, String> {
    let command = commands().into_iter().find(|command| command.get_name() == name);
    let command = command.ok_or_else(|| format!("there is no command {name}"))?;
    let words = words(&command, options)?;
    Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| {
        let text = error.to_string();
        text.split("\n\nUsage").next().unwrap_or_default().trim_start_matches("error: ").trim().to_owned()
    })
}

fn words(command: &clap::Command, options: &Options) -> Result<Vec<String>, String> {
    let known: Vec<&str> = arguments(command).map(|arg| arg.get_id().as_str()).collect();
    if let Some(key) = options.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("unknown key {key:?}; accepted here: {}", known.join(", ")));
    }
    let mut words = vec!["understudyd".to_owned(), command.get_name().to_owned(), "--pool=.".to_owned()];
    words.push("--json".to_owned());
    let mut placed = vec!["--".to_owned()];
    for arg in arguments(command) {
        let Some(value) = options.get(arg.get_id().as_str()) else { continue };
        let texts = texts(arg, value).ok_or_else(|| format!("{}: expected {}", arg.get_id(), Form::of(arg).name()))?;
        match arg.get_long() {
            None => placed.extend(texts),
            Some(long) if Form::of(arg) == Form::Flag => words.extend(texts.iter().map(|_| format!("--{long}"))),
            Some(long) => words.extend(texts.iter().map(|text| format!("--{long}={text}"))),
        }
    }
    words.extend(placed);
    Ok(words)
}

/// The words of a value: none for a flag that is false.
fn texts(arg: &Arg, value: &Value) -> Option<Vec<String>> {
    match (Form::of(arg), value) {
        (Form::Flag, Value::Bool(set)) => Some(if *set { vec![String::new()] } else { Vec::new() }),
        (Form::List, Value::Array(all)) => all.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
        (Form::Number, value) => value.as_u64().map(|number| vec![number.to_string()]),
        (Form::Text, Value::String(text)) => Some(vec![text.clone()]),
        _ => None,
    }
}

/// What an option is in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Flag,
    List,
    Number,
    Text,
}

impl Form {
    fn of(arg: &Arg) -> Self {
        let numbers = [TypeId::of::<u8>(), TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>()];
        match arg.get_action() {
            ArgAction::SetTrue => Self::Flag,
            ArgAction::Append => Self::List,
            _ if numbers.iter().any(|number| arg.get_value_parser().type_id() == *number) => Self::Number,
            _ => Self::Text,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::List => "a list of texts",
            Self::Number => "a whole number",
            Self::Text => "a text",
        }
    }
}

/// The JSON schema of a command's options.
pub fn schema(command: &clap::Command) -> Value {
    let properties: Options = arguments(command).map(|arg| (arg.get_id().to_string(), property(arg))).collect();
    let required: Vec<&str> =
        arguments(command).filter(|arg| arg.is_required_set()).map(|arg| arg.get_id().as_str()).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn property(arg: &Arg) -> Value {
    let mut schema = match Form::of(arg) {
        Form::Flag => json!({"type": "boolean"}),
        Form::List if arg.is_required_set() => json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
        Form::List => json!({"type": "array", "items": {"type": "string"}}),
        Form::Number => json!({"type": "integer", "minimum": 0}),
        Form::Text => json!({"type": "string"}),
    };
    schema["description"] = arg.get_help().map(ToString::to_string).unwrap_or_default().into();
    schema
}
