//! What the API is, as OpenAPI has it: `openapi.yaml`, and the commands out of the table that they are read by.
//!
//! Invariant: it has exactly the routes that there are (a test holds them against each other), and what is answered is as it says (schemathesis
//! asks the running daemon).

use super::options;
use axum::Json;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// All but the commands.
const WRITTEN: &str = include_str!("openapi.yaml");
/// Where the commands are.
const COMMANDS: &str = "/v1/commands/{command}";

static DOCUMENT: LazyLock<Value> = LazyLock::new(make);

/// `GET /v1/openapi.json`.
pub(super) async fn answer() -> Json<Value> {
    Json(DOCUMENT.clone())
}

/// The document.
fn make() -> Value {
    let mut document: Value = serde_yaml::from_str(WRITTEN).expect("the document is well-formed: a test reads it");
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    let form = document["paths"].as_object_mut().and_then(|paths| paths.remove(COMMANDS)).unwrap_or_default();
    let commands: Map<String, Value> = options::commands().iter().map(|command| path(command, &form)).collect();
    if let Some(paths) = document["paths"].as_object_mut() {
        paths.extend(commands);
    }
    document
}

/// The path of a command, in the form that all of them have.
fn path(command: &clap::Command, form: &Value) -> (String, Value) {
    let name = command.get_name();
    let mut path = form.clone();
    let post = &mut path["post"];
    post["operationId"] = name.into();
    post["summary"] = command.get_about().map(ToString::to_string).unwrap_or_default().into();
    post["requestBody"] = json!({"content": {"application/json": {"schema": options::schema(command)}}});
    (COMMANDS.replace("{command}", name), path)
}

#[cfg(test)]
mod tests {
    use super::super::routes;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_has_the_routes_that_there_are() {
        let written: Value = serde_yaml::from_str(WRITTEN).expect("YAML");
        let paths = written["paths"].as_object().expect("paths");
        let methods = |(path, item): (&String, &Value)| {
            let methods: Vec<String> = item.as_object().expect("methods").keys().cloned().collect();
            methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
        };
        let said: BTreeSet<_> = paths.iter().flat_map(methods).collect();
        let there: BTreeSet<_> =
            routes().into_iter().map(|(method, path, _)| (method.to_owned(), path.to_owned())).collect();
        assert_eq!(said, there);
    }

    #[test]
    fn every_command_has_its_path_and_its_options() {
        let document = make();
        let prune = &document["paths"]["/v1/commands/prune"]["post"];
        assert_eq!(prune["operationId"], "prune");
        let schema = &prune["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(schema["properties"]["keep_last"]["type"], "integer");
        assert_eq!(schema["properties"]["volumes"]["type"], "array");
        assert_eq!(schema["properties"]["dry_run"]["type"], "boolean");
        assert_eq!(schema["properties"]["pool"], Value::Null);
        assert_eq!(
            document["paths"]["/v1/commands/run"]["post"]["requestBody"]["content"]["application/json"]["schema"]["required"],
            json!(["job"])
        );
        assert_eq!(document["paths"]["/v1/commands/reindex"], Value::Null);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = make();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().expect("its end");
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
