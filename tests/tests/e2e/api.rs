//! The API, asked by a client that is not ours (curl) through the socket in the pool's directory.

use serde_json::{Value, json};
use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Outcome, Rng, Run, args, count, seed};

/// A daemon whose volume `disk` has two points.
struct Scene {
    appliance: Appliance,
    lab: Lab,
}

impl Scene {
    fn new() -> Scene {
        let lab = Lab::new();
        let appliance = Appliance::start(&lab);
        let (source, mut rng) = (lab.file("disk.raw"), Rng::new(seed()));
        image::random(&source, MIB, &mut rng);
        appliance.replicate_with(&source, "disk", &["--label", "act-one"]);
        image::scribble(&source, 0, MIB / 4, &mut rng);
        appliance.replicate(&source, "disk");
        appliance.settle("disk");
        Scene { appliance, lab }
    }

    /// Asks with these arguments of curl; the status, and what was answered.
    fn curl(&self, path: &str, more: &[&str]) -> (u64, String) {
        let socket = self.appliance.pool().join("control");
        let url = format!("http://pool{path}");
        let usual = args!["--silent", "--show-error", "--unix-socket", socket, "--write-out", "\n%{http_code}", url];
        let outcome: Outcome = Run::peer("curl").args(usual).args(more.iter().map(|word| word.into())).run();
        let text = outcome.expect_code(0).out();
        let (answer, status) = text.rsplit_once('\n').expect("an answer and its status");
        (status.parse().expect("a status"), answer.to_owned())
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let (status, answer) = self.curl(path, &[]);
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
    }

    #[track_caller]
    fn refused(&self, path: &str, more: &[&str], status: u64, why: &str) {
        let (found, answer) = self.curl(path, more);
        let problem: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"));
        assert_eq!((found, count(&problem, "status")), (status, status), "{path}: {answer}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{path}: {answer}");
    }
}

#[test]
fn what_there_is_is_told() {
    let scene = Scene::new();
    let volumes = scene.get("/v1/volumes");
    let disk = &volumes[0];
    assert_eq!(
        (&disk["name"], &disk["size"], &disk["points"], &disk["secondary"]["state"]),
        (&json!("disk"), &json!(MIB), &json!(2), &json!("settled"))
    );
    assert_eq!(disk["newest"], scene.get("/v1/volumes/disk/points/latest"));
    let points = scene.get("/v1/volumes/disk/points");
    assert_eq!(points[0], scene.get("/v1/volumes/disk/points/act-one"));
    assert_eq!((&points[0]["kind"], &points[1]["kind"]), (&json!("full"), &json!("incremental")));
    let attach = scene.get("/v1/volumes/disk/points/act-one/attach");
    assert_eq!(attach["uri"], scene.appliance.uri("disk@1"));
    let copy = scene.lab.file("copy.raw");
    Run::peer("nbdcopy").args(args![attach["uri"].as_str().expect("a URI"), copy]).run().expect_code(0);
}

#[test]
fn commands_are_carried_out_and_told() {
    let scene = Scene::new();
    let (status, answer) = scene.curl("/v1/commands/protect", &["--json", r#"{"points": ["disk@1"]}"#]);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((status, &answer["outcome"], &answer["code"]), (200, &json!("done"), &json!(0)));
    assert_eq!(answer["events"], json!([{"event": "protected", "volume": "disk", "point": 1}]));
    let events =
        ["--header", "Accept: text/event-stream", "--data", "{}", "--header", "Content-Type: application/json"];
    let (status, answer) = scene.curl("/v1/commands/scrub", &events);
    assert_eq!(status, 200, "{answer}");
    let names: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((names.first(), names.last()), (Some(&"told"), Some(&"ended")), "{answer}");
    assert!(answer.contains(r#""event":"progress""#) && answer.contains(r#""outcome":"done""#), "{answer}");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let scene = Scene::new();
    scene.refused("/v1/nothing", &[], 404, "/v1/openapi.json");
    scene.refused("/v1/volumes/other", &[], 404, "there is no volume \"other\"");
    scene.refused("/v1/volumes/disk/points/9", &[], 404, "volume disk has no point 9");
    scene.refused("/v1/volumes", &["--request", "DELETE"], 405, "DELETE is not for /v1/volumes");
    let remove = "/v1/commands/remove";
    scene.refused(remove, &["--json", r#"{"name": "disk"}"#], 422, "this removes volume disk");
    scene.refused(remove, &["--json", r#"{"nme": "disk"}"#], 400, "unknown key \"nme\"; accepted here: name, force");
    scene.refused(remove, &["--json", "{"], 400, "the body: EOF");
    scene.refused(remove, &["--data", "name=disk"], 415, "the body is not application/json");
    scene.refused("/v1/commands/reindex", &["--json", "{}"], 404, "there is no command");
    let long = scene.lab.write("long.json", " ".repeat(100_000));
    scene.refused(remove, &["--json", &format!("@{}", long.display())], 413, "more than 65536 bytes");
    scene.refused("/v1/overlays/disk/1", &["--request", "DELETE"], 422, "no scratch overlay");
    assert_eq!(scene.appliance.point_numbers("disk"), [1, 2]);
}
