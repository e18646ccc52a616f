//! Clients: how they come to be, what they may do and see, and what ends that.

use std::path::{Path, PathBuf};

use understudy_tests::image::{self, MIB};
use understudy_tests::wait::wait_until;
use understudy_tests::{Appliance, Lab, Outcome, Rng, Run, UNDERSTUDYD, args, compare, have_root, seed, text, tool};

/// A daemon with access control.
pub fn guarded(lab: &Lab) -> Appliance {
    Appliance::start_with(lab, &lab.file("pool"), args!["--tls", "on"])
}

/// A token for a client, with these arguments of `enroll`.
pub fn token(appliance: &Appliance, words: &[&str]) -> String {
    let outcome = appliance.upkeep_run(&[&["enroll"], words].concat()).args(args!["--json"]).run().expect_code(0);
    outcome.json()["token"].as_str().expect("a token").to_owned()
}

/// A host that has become a client: the directory that says so.
pub fn enrolled(lab: &Lab, appliance: &Appliance, name: &str, words: &[&str]) -> PathBuf {
    let (dir, token) = (lab.file(&format!("identity of {name}")), token(appliance, &[&[name], words].concat()));
    appliance.understudy(args!["login", appliance.address(), "--token", token, "--identity", &dir]).expect_code(0);
    dir
}

/// A command of the host with this identity.
fn as_client(appliance: &Appliance, identity: &Path, arguments: Vec<std::ffi::OsString>) -> Outcome {
    appliance.initiator(arguments).env("UNDERSTUDY_IDENTITY", identity).run()
}

fn replicate(appliance: &Appliance, identity: &Path, source: &Path, volume: &str) -> Outcome {
    as_client(appliance, identity, Appliance::replicate_args(source, volume))
}

/// Where Debian's Python is, whatever else is called so.
const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

fn source(lab: &Lab) -> PathBuf {
    let source = lab.file("source.raw");
    image::mixed(&source, 2 * MIB, &mut Rng::new(seed()));
    source
}

/// What was done, and what was refused.
pub fn audit(appliance: &Appliance) -> String {
    let read = |name| std::fs::read_to_string(appliance.pool().join("access").join(name)).unwrap_or_default();
    read("audit.jsonl") + &read("refused.jsonl")
}

#[test]
fn a_host_logs_in_once_and_then_every_command_finds_who_it_is() {
    let lab = Lab::new();
    let (appliance, source) = (guarded(&lab), source(&lab));
    appliance.try_replicate(&source, "v", &[]).expect_code(1).says("understudy login");
    let token = token(&appliance, &["web"]);
    appliance
        .understudy(args!["login", appliance.address(), "--token", &token])
        .expect_code(0)
        .says("this host is web");
    appliance.replicate(&source, "v");
    let again = appliance.understudy(args!["login", appliance.address(), "--token", &token]);
    again.expect_code(1).says("it was used");
    appliance.replicate(&source, "v");
    appliance.understudy(args!["verify", &source, "v"]).expect_code(0);
    appliance.understudy(args!["restore", "v", lab.file("back.raw")]).expect_code(0);
    compare::assert_same(&lab.file("back.raw"), &source, "restored through TLS");
}

#[test]
fn the_identity_is_secret_and_can_be_renewed() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let appliance = guarded(&lab);
    let dir = enrolled(&lab, &appliance, "web", &[]);
    let mode = |name: &str| std::fs::metadata(dir.join(name)).expect(name).permissions().mode() & 0o777;
    assert_eq!(["client-key.pem", "client-cert.pem", "ca-cert.pem"].map(mode), [0o600; 3]);
    let certificate = || std::fs::read(dir.join("client-cert.pem")).expect("a certificate");
    let first = certificate();
    appliance.understudy(args!["login", appliance.address(), "--renew", "--identity", &dir]).expect_code(0);
    let second = certificate();
    assert_ne!(first, second);
    // Two thirds of its time are over.
    std::fs::write(dir.join("renew-after"), "1").expect("a time");
    as_client(&appliance, &dir, args!["volumes"]).expect_code(0);
    assert_ne!(certificate(), second, "a connection renews what is old");
}

#[test]
fn a_client_sees_and_changes_its_own_volumes_alone() {
    let lab = Lab::new();
    let (appliance, source) = (guarded(&lab), source(&lab));
    let (a, b) = (enrolled(&lab, &appliance, "a", &[]), enrolled(&lab, &appliance, "b", &[]));
    replicate(&appliance, &a, &source, "v").expect_code(0);
    let volumes = |identity: &Path| as_client(&appliance, identity, args!["volumes", "--json"]).expect_code(0).json();
    assert_eq!(volumes(&a)[0]["name"], "v");
    assert_eq!(volumes(&b).as_array().map(Vec::len), Some(0));
    as_client(&appliance, &b, args!["points", "v"]).expect_code(1).says("no such volume");
    as_client(&appliance, &b, args!["restore", "v", lab.file("stolen.raw")]).expect_code(1).says("no such volume");
    replicate(&appliance, &b, &source, "v").expect_code(1).says("understudyd grant b --role replicate --volume v");
    appliance.upkeep(&["grant", "b", "--role", "read", "--volume", "v*"]).expect_code(0);
    as_client(&appliance, &b, args!["restore", "v", lab.file("given.raw")]).expect_code(0);
    replicate(&appliance, &b, &source, "v").expect_code(1).says("no right to replicate");
    let log = audit(&appliance);
    assert!(log.contains("\"act\":\"denied\"") && log.contains("client b has no right to replicate volume v"), "{log}");
    assert!(log.contains("\"act\":\"grant\"") && log.contains("\"act\":\"create\""), "{log}");
}

#[test]
fn a_client_that_may_only_replicate_reads_nothing() {
    let lab = Lab::new();
    let (appliance, source) = (guarded(&lab), source(&lab));
    let dir = enrolled(&lab, &appliance, "web", &["--role", "replicate"]);
    replicate(&appliance, &dir, &source, "v").expect_code(0);
    as_client(&appliance, &dir, args!["restore", "v", lab.file("x.raw")])
        .expect_code(1)
        .says("no right to read volume v");
    let nbd = Run::peer("nbdinfo").args(args!["--size", appliance.tls_uri("v", &dir)]).run();
    assert_ne!(nbd.code, Some(0), "{nbd}");
    assert!(audit(&appliance).contains("client web has no right to read volume v"), "{}", audit(&appliance));
}

#[test]
fn nbd_clients_show_the_same_certificates_and_have_the_same_rights() {
    let lab = Lab::new();
    let (appliance, source) = (guarded(&lab), source(&lab));
    let (a, b) = (enrolled(&lab, &appliance, "a", &[]), enrolled(&lab, &appliance, "b", &[]));
    replicate(&appliance, &a, &source, "v").expect_code(0);
    let copy = lab.file("copy.raw");
    tool("nbdcopy", args![appliance.tls_uri("v", &a), &copy]);
    compare::assert_same(&copy, &source, "read through TLS with the client's certificate");
    let other = Run::peer("nbdinfo").args(args!["--size", appliance.tls_uri("v", &b)]).run();
    assert_ne!(other.code, Some(0), "{other}");
    other.says("no export named");
    let list = Run::peer("nbdinfo").args(args!["--list", "--json", appliance.tls_uri("", &b)]).run();
    assert!(!list.all().contains("v@1"), "{list}");
    for uri in [appliance.uri("v"), appliance.unix_uri("v")] {
        assert_ne!(
            Run::peer("nbdinfo").args(args!["--size", uri]).run().code,
            Some(0),
            "nothing without a certificate"
        );
    }
}

#[test]
fn who_is_revoked_is_cut_off_and_let_in_no_more() {
    let lab = Lab::new();
    let (appliance, source) = (guarded(&lab), source(&lab));
    let dir = enrolled(&lab, &appliance, "web", &[]);
    replicate(&appliance, &dir, &source, "v").expect_code(0);
    let connect = format!("h.set_uri_allow_local_file(True)\nh.connect_uri('{}')", appliance.tls_uri("v", &dir));
    let read = "print('open', flush=True)\nwhile True: h.pread(512, 0)";
    let reader = Run::peer("nbdsh").env("PATH", SYSTEM_PATH).args(args!["-c", connect, "-c", read]);
    let reader = reader.start().wait_line("open");
    appliance.upkeep(&["revoke", "web"]).expect_code(0);
    let cut = reader.finish();
    assert_ne!(cut.code, Some(0), "what was open is cut: {cut}");
    as_client(&appliance, &dir, args!["volumes"]).expect_code(1).says("Revoked");
    assert_ne!(Run::peer("nbdinfo").args(args!["--size", appliance.tls_uri("v", &dir)]).run().code, Some(0));
    let back = enrolled(&lab, &appliance, "web", &[]);
    replicate(&appliance, &back, &source, "v").expect_code(0);
}

#[test]
fn an_append_only_client_adds_and_takes_nothing_away() {
    let lab = Lab::new();
    let (appliance, source) = (guarded(&lab), source(&lab));
    let dir = enrolled(&lab, &appliance, "web", &["--append-only"]);
    appliance.upkeep(&["grant", "web", "--role", "administer", "--volume", "*"]).expect_code(0);
    replicate(&appliance, &dir, &source, "v").expect_code(0);
    replicate(&appliance, &dir, &source, "v").expect_code(0);
    let overlay = Run::peer("nbdinfo").args(args!["--size", appliance.tls_uri("v@1+w", &dir)]).run();
    overlay.expect_code(0);
    let discard = as_client(&appliance, &dir, args!["attach", "discard", "v@1", "--force"]);
    discard.expect_code(1).says("only adds");
    let ask = |method: &str, path: &str, body: &str| {
        let url = format!("https://{}{path}", appliance.address().replace("127.0.0.1", "localhost"));
        let files = ["ca-cert.pem", "client-cert.pem", "client-key.pem"].map(|name| dir.join(name));
        let [ca, cert, key] = &files;
        tool(
            "curl",
            args![
                "-s",
                "--cacert",
                ca,
                "--cert",
                cert,
                "--key",
                key,
                "-X",
                method,
                "-H",
                "Content-Type: application/json",
                "-d",
                body,
                url
            ],
        )
    };
    assert!(ask("GET", "/v1/volumes", "").out().contains("\"v\""), "the API is behind the same door");
    for (command, body) in [
        ("remove", r#"{"name":"v@1"}"#),
        ("prune", r#"{"volumes":["v"],"keep_last":1}"#),
        ("set", r#"{"volume":"v","keep_last":1}"#),
        ("unprotect", r#"{"points":["v@1"]}"#),
        ("collect", "{}"),
    ] {
        let outcome = ask("POST", &format!("/v1/commands/{command}"), body);
        assert!(outcome.out().contains("no right to administer"), "{command}: {outcome}");
    }
    let token = ask("POST", "/v1/commands/enroll", r#"{"client":"web"}"#);
    assert!(token.out().contains("no right to administer"), "{token}");
    assert_eq!(appliance.upkeep_run(&["prune", "--dry-run"]).run().expect_code(0).all().matches("v@").count(), 2);
}

#[test]
fn the_authority_can_be_replaced_while_clients_come_and_go() {
    let lab = Lab::new();
    let appliance = guarded(&lab);
    let dir = enrolled(&lab, &appliance, "web", &[]);
    let trusted = || std::fs::read_to_string(dir.join("ca-cert.pem")).expect("the authority");
    let before = trusted();
    appliance.upkeep(&["rotate"]).expect_code(0);
    as_client(&appliance, &dir, args!["volumes"]).expect_code(0);
    assert_eq!(trusted(), before);
    appliance.upkeep(&["rotate", "--authority"]).expect_code(0);
    let nbd = Run::peer("nbdinfo").args(args!["--list", appliance.tls_uri("", &dir)]);
    nbd.run();
    as_client(&appliance, &dir, args!["volumes"]).expect_code(0);
    assert_ne!(trusted(), before, "a connection takes the new authority over");
    appliance.upkeep(&["rotate", "--finish"]).expect_code(0);
    as_client(&appliance, &dir, args!["volumes"]).expect_code(0);
}

#[test]
fn a_point_is_attached_through_tls() {
    if !have_root("a mount of nbdfuse") {
        return;
    }
    let lab = Lab::new();
    let (appliance, source) = (guarded(&lab), source(&lab));
    let token = token(&appliance, &["web"]);
    appliance.understudy(args!["login", appliance.address(), "--token", token]).expect_code(0);
    appliance.replicate(&source, "v");
    let attached = appliance.understudy(args!["attach", "v@1", "--json"]).expect_code(0).json();
    let different = compare::difference(Path::new(text(&attached, "disk")), &source);
    appliance.understudy(args!["detach", "v@1"]).expect_code(0);
    assert_eq!(different, None, "the disk is the point");
}

#[test]
fn clients_stay_over_a_restart() {
    let lab = Lab::new();
    let mut appliance = guarded(&lab);
    let dir = enrolled(&lab, &appliance, "web", &[]);
    appliance.kill();
    appliance.restart();
    as_client(&appliance, &dir, args!["volumes"]).expect_code(0);
    appliance.upkeep(&["clients"]).expect_code(0).says("web: certificate until");
}

#[test]
fn nobody_listens_beyond_loopback_without_tls() {
    let lab = Lab::new();
    let start = |more| {
        let common = args!["serve", "--pool", lab.file("pool")];
        Run::ours(UNDERSTUDYD).args(common).args(more).run().expect_refusal()
    };
    start(args!["--listen", "0.0.0.0:0", "--nbd", "127.0.0.1:0"]).says("`tls: on`");
    start(args!["--listen", "127.0.0.1:0", "--nbd", "[::]:0"]).says("nbd-tls: require");
    start(args!["--tls", "on", "--nbd-tls", "off", "--listen", "127.0.0.1:0", "--nbd", "127.0.0.1:0"])
        .says("nbd-tls: off");
    assert!(!lab.file("pool").exists(), "nothing was begun");
}

#[test]
fn every_act_is_in_the_audit_log() {
    let lab = Lab::new();
    let (appliance, source) = (guarded(&lab), source(&lab));
    let dir = enrolled(&lab, &appliance, "web", &[]);
    replicate(&appliance, &dir, &source, "v").expect_code(0);
    as_client(&appliance, &dir, args!["restore", "v", lab.file("back.raw")]).expect_code(0);
    tool("nbdcopy", args![appliance.tls_uri("v", &dir), lab.file("copy.raw")]);
    appliance.upkeep(&["protect", "v@1"]).expect_code(0);
    appliance.upkeep(&["rotate"]).expect_code(0);
    appliance.upkeep(&["revoke", "web"]).expect_code(0);
    wait_until("the end of the connections is recorded", || match audit(&appliance) {
        log if ["enroll", "login", "create", "read", "open", "command", "rotate", "revoke"]
            .iter()
            .all(|act| log.contains(&format!("\"act\":\"{act}\""))) =>
        {
            Ok(())
        }
        log => Err(log),
    });
}
