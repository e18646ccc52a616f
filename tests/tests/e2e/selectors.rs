//! Points are chosen by number, `latest`, label or time, and by nothing that could be two of them.

use std::path::PathBuf;

use understudy_tests::image::{self, MIB};
use understudy_tests::{Appliance, Lab, Rng, args, compare, seed, text};

/// Three points; the second has a label. Returns the copies.
fn scene(lab: &Lab) -> (Appliance, Vec<PathBuf>) {
    let appliance = Appliance::start(lab);
    let mut rng = Rng::new(seed());
    let source = lab.file("source.raw");
    image::hole(&source, 2 * MIB);
    let mut kept = Vec::new();
    for point in 1..=3 {
        image::scribble(&source, point * 100_000, 50_000, &mut rng);
        let label: &[&str] = if point == 2 { &["--label", "before-upgrade"] } else { &[] };
        appliance.replicate_with(&source, "v", label);
        kept.push(image::keep(&source, &lab.file(&format!("kept {point}"))));
    }
    (appliance, kept)
}

#[test]
fn every_selector_gives_its_point() {
    let lab = Lab::new();
    let (appliance, kept) = scene(&lab);
    let points = appliance.points("v");
    assert_eq!(points[1]["label"], "before-upgrade", "{}", points[1]);
    let of_time = format!("v@{}", text(&points[1], "time"));
    let wanted = [
        ("v", 3),
        ("v@latest", 3),
        ("v@1", 1),
        ("v@2", 2),
        ("v@3", 3),
        ("v@before-upgrade", 2),
        ("v@2999-01-01T00:00", 3),
        ("v@2999-12-31", 3),
        (of_time.as_str(), 2),
    ];
    for (selector, point) in wanted {
        let target = lab.file("target.raw");
        let _ = std::fs::remove_file(&target);
        appliance.understudy(args!["restore", selector, &target]).expect_code(0);
        compare::assert_same(&target, &kept[point - 1], &format!("{selector} is point {point}"));
        appliance.understudy(args!["verify", &target, selector]).expect_code(0);
    }
}

#[test]
fn a_time_before_the_first_point_is_an_error() {
    let lab = Lab::new();
    let (appliance, _) = scene(&lab);
    let refused = appliance.understudy(args!["restore", "v@1999-12-31T23:59", lab.file("target.raw")]);
    refused.expect_refusal().says("1999-12-31");
}

#[test]
fn nonsense_for_a_point_is_an_error_that_says_what_would_be_sense() {
    let lab = Lab::new();
    let (appliance, _) = scene(&lab);
    for selector in ["v@", "v@-1", "v@2026-13-45", "v@1@2", "@1"] {
        let outcome = appliance.understudy(args!["restore", selector, lab.file("target.raw")]);
        assert!(matches!(outcome.code, Some(1 | 2)), "{selector} selects nothing: {outcome}");
        assert!(outcome.stderr.contains("error: "), "{selector}: {outcome}");
    }
}
