//! The tools of libnbd and qemu as clients.

use understudy_format::nbd::{Extent, fit};

use super::fixture::{Fixture, RUN, SIZE, assert_pattern, extents_of, stderr_of_failure, stdout};

#[test]
fn nbdinfo_prints_the_size() {
    let fixture = Fixture::start();
    for uri in fixture.uris("pattern") {
        assert_eq!(stdout("nbdinfo", &["--size", &uri]), format!("{SIZE}\n"));
    }
}

#[test]
fn nbdinfo_describes_an_export() {
    let fixture = Fixture::start();
    let json = stdout("nbdinfo", &["--json", &fixture.tcp_uri("pattern")]);
    for part in [
        "\"protocol\": \"newstyle-fixed\"",
        "\"structured\": true",
        "\"export-name\": \"pattern\"",
        "\"description\": \"a pattern with holes\"",
        "\"is_read_only\": true",
        "\"can_multi_conn\": true",
        "\"can_df\": true",
        "\"can_trim\": false",
        "\"block_size_preferred\": 4096",
        "\"base:allocation\"",
        "\"x-test:odd\"",
    ] {
        assert!(json.contains(part), "{part} is missing in {json}");
    }
}

#[test]
fn nbdinfo_shows_the_canonical_name_of_the_default_export() {
    let fixture = Fixture::start();
    let text = stdout("nbdinfo", &[&fixture.unix_uri("")]);
    assert!(text.contains("a pattern with holes"), "{text}");
}

#[test]
fn nbdinfo_lists_the_exports() {
    let fixture = Fixture::start();
    let text = stdout("nbdinfo", &["--list", &fixture.tcp_uri("")]);
    assert!(text.contains("export=\"pattern\""), "{text}");
    assert!(text.contains("export=\"writable\""), "{text}");
}

#[test]
fn nbdinfo_maps_every_run() {
    let fixture = Fixture::start();
    let text = stdout("nbdinfo", &["--map", &fixture.tcp_uri("pattern")]);
    let runs = text.lines().map(|line| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
        let (_, length, flags) = (fields.next(), fields.next().unwrap(), fields.next().unwrap());
        Extent { length, flags: flags as u32 }
    });
    assert_eq!(runs.collect::<Vec<_>>(), fit(extents_of(0, SIZE), SIZE, false));
}

#[test]
fn qemu_img_shows_the_text_of_an_unknown_export() {
    let fixture = Fixture::start();
    let errors = stderr_of_failure("qemu-img", &["info", &fixture.tcp_uri("nosuch")]);
    assert!(errors.contains("no volume is named \"nosuch\""), "{errors}");
}

#[test]
fn qemu_img_shows_the_text_of_a_refused_export() {
    let fixture = Fixture::start();
    let errors = stderr_of_failure("qemu-img", &["info", &fixture.tcp_uri("private")]);
    assert!(errors.contains("private is not for you"), "{errors}");
}

#[test]
fn nbdcopy_reads_the_same_bytes_over_four_connections() {
    let fixture = Fixture::start();
    for uri in fixture.uris("pattern") {
        let path = fixture.path("copy");
        stdout("nbdcopy", &["--connections=4", &uri, &path]);
        assert_pattern(path);
    }
}

#[test]
fn nbdcopy_reads_the_same_bytes_without_extents() {
    let fixture = Fixture::start();
    let path = fixture.path("copy");
    stdout("nbdcopy", &["--no-extents", "--requests=64", &fixture.unix_uri("pattern"), &path]);
    assert_pattern(path);
}

#[test]
fn nbdcopy_synchronously_reads_the_same_bytes() {
    let fixture = Fixture::start();
    let path = fixture.path("copy");
    stdout("nbdcopy", &["--synchronous", &fixture.tcp_uri("pattern"), &path]);
    assert_pattern(path);
}

#[test]
fn qemu_img_prints_the_size() {
    let fixture = Fixture::start();
    let json = stdout("qemu-img", &["info", "--output=json", &fixture.tcp_uri("pattern")]);
    assert!(json.contains(&format!("\"virtual-size\": {SIZE}")), "{json}");
}

#[test]
fn qemu_img_converts_the_same_bytes() {
    let fixture = Fixture::start();
    for uri in fixture.uris("pattern") {
        let path = fixture.path("raw");
        stdout("qemu-img", &["convert", "-f", "raw", "-O", "raw", &uri, &path]);
        assert_pattern(path);
    }
}

#[test]
fn qemu_img_finds_a_converted_image_identical() {
    let fixture = Fixture::start();
    let (uri, path) = (fixture.unix_uri("pattern"), fixture.path("qcow2"));
    stdout("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &uri, &path]);
    let verdict = stdout("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", &uri, &path]);
    assert_eq!(verdict, "Images are identical.\n");
}

#[test]
fn qemu_img_maps_holes_as_zero() {
    let fixture = Fixture::start();
    let uri = fixture.tcp_uri("pattern");
    let json = stdout("qemu-img", &["map", "-f", "raw", "--output=json", &uri]);
    let hole = format!("\"start\": {RUN}, \"length\": {RUN}, ");
    let line = json.lines().find(|line| line.contains(&hole)).unwrap();
    assert!(line.contains("\"zero\": true, \"data\": false"), "{line}");
}

#[test]
fn nbdcopy_writes_and_reads_back() {
    let fixture = Fixture::start();
    let content: Vec<u8> = (0..1u32 << 20).map(|at| (at / 4096 % 3) as u8 * 77).collect();
    let (from, back) = (fixture.path("from"), fixture.path("back"));
    std::fs::write(&from, &content).unwrap();
    for uri in fixture.uris("writable") {
        stdout("nbdcopy", &["--flush", "--destination-is-zero", &from, &uri]);
        stdout("nbdcopy", &[&uri, &back]);
        assert!(std::fs::read(&back).unwrap() == content, "{uri}");
    }
}

#[test]
fn qemu_io_writes_and_reads_back() {
    let fixture = Fixture::start();
    let uri = fixture.tcp_uri("writable");
    let commands = ["write -f -P 5 4k 64k", "write -z 8k 4k", "flush", "read -P 5 4k 4k", "read -P 0 8k 4k"];
    let mut args = vec!["-f", "raw", &uri];
    commands.iter().for_each(|command| args.extend(["-c", command]));
    let text = stdout("qemu-io", &args);
    assert!(!text.contains("failed"), "{text}");
}
