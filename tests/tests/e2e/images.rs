//! What `images/` has for a host: units that systemd understands.

use std::path::Path;

use understudy_tests::{Lab, Run, UNDERSTUDY, UNDERSTUDYD, args, binary};

/// Copies a unit with the programs where they were built, and has systemd read it.
fn verify(lab: &Lab, unit: &str, instance: &str) {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images");
    let mut text = std::fs::read_to_string(images.join(unit)).expect("a unit");
    for program in [UNDERSTUDYD, UNDERSTUDY] {
        let built = binary(program);
        text = text.replace(&format!("=/usr/bin/{program} "), &format!("={} ", built.display()));
    }
    assert!(!text.contains("=/usr/bin/"), "{unit} starts nothing else");
    let path = lab.write(instance, text);
    let outcome = Run::peer("systemd-analyze").args(args!["verify", "--man=no", path]).run().expect_code(0);
    assert_eq!(outcome.all().trim(), "", "{unit}");
}

#[test]
fn the_daemon_is_let_do_little() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/understudyd.service");
    // Of 10, the fewer the better: what systemd calls OK.
    let judge = args!["security", "--offline=yes", "--no-pager", "--threshold=15", unit];
    Run::peer("systemd-analyze").args(judge).run().expect_code(0);
}

#[test]
fn systemd_understands_the_units() {
    let lab = Lab::new();
    verify(&lab, "understudyd.service", "understudyd.service");
    verify(&lab, "understudy-attach@.service", "understudy-attach@disk.service");
    verify(&lab, "understudy-agent.service", "understudy-agent.service");
    verify(&lab, "understudy-tap@.service", "understudy-tap@disk.service");
}
