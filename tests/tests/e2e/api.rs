//! The API, asked by a client that is not ours (curl) through the socket in the pool's directory.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::spawn;

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
fn what_happens_is_told_to_who_listens() {
    let scene = Scene::new();
    let socket = scene.appliance.pool().join("control");
    let listen = args!["--silent", "--no-buffer", "--include", "--unix-socket", socket, "http://pool/v1/events"];
    let mut command = Run::peer("curl").args(listen).command();
    let mut listener = command.stdout(Stdio::piped()).spawn().expect("curl starts");
    let mut lines = BufReader::new(listener.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    assert!(lines.next().is_some_and(|line| line.contains("200 OK")), "who is answered listens");
    // A token is for who asked for it alone.
    scene.appliance.upkeep(&["enroll", "web"]).expect_code(0);
    scene.appliance.upkeep(&["protect", "disk@1"]).expect_code(0);
    let told = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).expect("an event");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let expected = json!({"event": "protected", "volume": "disk", "point": 1});
    assert_eq!(
        (&told["about"], &told["event"], &told["text"]),
        (&json!("protect"), &expected, &json!("disk@1 is protected"))
    );
    // The end of the daemon ends it.
    let mut scene = scene;
    scene.appliance.stop();
    assert!(lines.all(|line| !line.starts_with("event: ")), "nothing else happened");
    listener.wait().expect("it ends");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let scene = Scene::new();
    scene.refused("/v1/nothing", &[], 404, "/v1/openapi.json");
    scene.refused("/v1/volumes/other", &[], 404, "there is no volume \"other\"");
    scene.refused("/v1/volumes/disk/points/9", &[], 404, "volume disk has no point 9");
    scene.refused("/v1/volumes", &["--request", "DELETE"], 405, "DELETE is not for /v1/volumes");
    let remove = "/v1/commands/remove";
    scene.refused(remove, &["--json", r#"{"name": ""}"#], 400, "volume name");
    scene.refused(remove, &["--json", r#"{"name": "disk@"}"#], 422, "expected");
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

/// Bodies that nobody asked for are taken all the same: the connection is good for the next request.
#[test]
fn a_refused_request_leaves_its_connection_to_the_next() {
    let scene = Scene::new();
    let mut socket = UnixStream::connect(scene.appliance.pool().join("control")).expect("the daemon");
    let mut answers = BufReader::new(socket.try_clone().expect("a second handle"));
    for path in ["/v1/commands/prune", "/v1/nothing", "/v1/volumes"] {
        let head = format!("PUT {path} HTTP/1.1\r\nhost: pool\r\ncontent-length: 65536\r\n\r\n");
        socket.write_all(head.as_bytes()).expect("the head");
        // More than the socket holds at once comes after the head was looked at.
        socket.write_all(&[b' '; 65536]).expect("the body");
        let status = if path == "/v1/nothing" { 404 } else { 405 };
        assert_eq!(answer(&mut answers), status, "{path}");
        socket.write_all(b"GET /v1/volumes HTTP/1.1\r\nhost: pool\r\n\r\n").expect("the next");
        assert_eq!(answer(&mut answers), 200, "after {path}");
    }
}

/// Reads one answer as a whole; its status.
fn answer(from: &mut impl BufRead) -> u64 {
    let head: Vec<String> =
        from.lines().map(|line| line.expect("a line")).take_while(|line| !line.is_empty()).collect();
    let status = head[0].split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    io::copy(&mut from.take(length.expect("a length")), &mut io::sink()).expect("the body");
    status.expect("a status")
}

#[test]
fn metrics_say_what_is_so_and_have_every_name_that_is_looked_for() {
    let scene = Scene::new();
    let (status, text) = scene.curl("/metrics", &[]);
    assert_eq!(status, 200, "{text}");
    let has = |line: &str| assert!(text.lines().any(|found| found.starts_with(line)), "no {line}: {text}");
    has(r#"understudy_points_made_total{volume="disk",kind="full"} 1"#);
    has(r#"understudy_points_made_total{volume="disk",kind="incremental"} 1"#);
    has(r#"understudy_volume_points{volume="disk"} 2"#);
    has(&format!(r#"understudy_volume_size_bytes{{volume="disk"}} {MIB}.0"#));
    has(r#"understudy_volume_secondary_behind_blocks{volume="disk"} 0"#);
    has("understudy_scrub_unchecked_segments 1");
    has("understudy_nbd_clients 0");
    assert!(text.ends_with("# EOF\n"), "{text}");
    scene.appliance.upkeep(&["scrub"]).expect_code(0);
    scene.appliance.upkeep(&["collect"]).expect_code(0);
    let (_, after) = scene.curl("/metrics", &[]);
    let value = |name: &str| {
        let line = after.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}: {after}")).parse::<f64>().expect("a number")
    };
    assert!(value("understudy_pool_used_bytes") > MIB as f64 && value("understudy_pool_reclaimable_bytes") >= 0.0);
    let told: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for file in ["prometheus/understudy.rules.yaml", "prometheus/understudy.rules.test.yaml", "grafana/understudy.json"]
    {
        let content = std::fs::read_to_string(images().join(file)).expect("a file of images");
        let words = content.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: BTreeSet<&str> = words.filter(|word| word.starts_with("understudy_")).collect();
        let unknown: Vec<_> = names.iter().filter(|name| !told.contains(name.trim_end_matches("_total"))).collect();
        assert!(names.len() > 5 && unknown.is_empty(), "{file}: nothing tells {unknown:?}");
    }
}

/// Where `.ci/install-peers` put what is no package of this host.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

fn promtool(words: Vec<OsString>) -> Run {
    Run::peer(&target().join("promtool/usr/bin/promtool").to_string_lossy()).args(words)
}

#[test]
fn alerts_fire_when_they_should_and_the_dashboard_is_json() {
    let rules = images().join("prometheus");
    promtool(args!["check", "rules", rules.join("understudy.rules.yaml")]).run().expect_code(0);
    let tests = ["understudy.rules.test.yaml", "understudy.rules.days.test.yaml"].map(|name| rules.join(name).into());
    promtool([args!["test", "rules"], tests.into()].concat()).run().expect_code(0);
    let dashboard = std::fs::read_to_string(images().join("grafana/understudy.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().map(|panel| count(panel, "id")).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    // promtool reads the expressions as rules, once what only Grafana knows has a value.
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let expressions = targets.map(|target| target["expr"].as_str().expect("an expression"));
    let rule = |(at, expr): (usize, &str)| json!({"record": format!("panel:{at}"), "expr": expr.replace("$__rate_interval", "5m")});
    let rules: Vec<Value> = expressions.enumerate().map(rule).collect();
    let lab = Lab::new();
    let file = lab.write("panels.yaml", json!({"groups": [{"name": "panels", "rules": rules}]}).to_string());
    promtool(args!["check", "rules", file]).run().expect_code(0);
}

/// What runs against the daemon's own document: no more requests than take a minute.
#[test]
fn what_is_answered_is_what_the_document_says() {
    let scene = Scene::new();
    // It leaves things where it runs.
    let run = Run::peer("env").args(args!["--chdir", scene.lab.path(), target().join("schemathesis/bin/schemathesis")]);
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                  negative_data_rejection,unsupported_method,missing_required_header,response_headers_conformance";
    let url = format!("http://{}", relay(scene.appliance.pool().join("control")));
    let document = format!("{url}/v1/openapi.json");
    let outcome = run
        .args(args!["run", document, "--url", url, "--checks", checks, "--exclude-operation-id", "events"])
        .args(args!["--max-examples", "10"])
        .args(args!["--generation-deterministic", "--no-color", "--request-timeout", "60"])
        .limit(180)
        .run();
    outcome.expect_code(0);
}

/// HOST:PORT of a port behind which the socket is.
fn relay(socket: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address").to_string();
    spawn(move || listener.incoming().flatten().for_each(|client| join(client, &socket)));
    address
}

/// Moves bytes both ways until one side ends.
fn join(client: TcpStream, socket: &Path) {
    let Ok(daemon) = UnixStream::connect(socket) else { return };
    let (mut from, mut to) = (client.try_clone().expect("a socket"), daemon.try_clone().expect("a socket"));
    spawn(move || io::copy(&mut from, &mut to).and_then(|_| to.shutdown(std::net::Shutdown::Write)));
    let (mut from, mut to) = (daemon, client);
    spawn(move || io::copy(&mut from, &mut to).and_then(|_| to.shutdown(std::net::Shutdown::Both)));
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

fn images() -> PathBuf {
    repository().join("images")
}
