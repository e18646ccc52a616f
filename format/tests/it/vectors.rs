//! Golden vectors: checked-in bytes that every version of this program reads and writes alike.
//!
//! `vectors/good/NAME.hex` must decode to exactly its value and encode to the same bytes,
//! `vectors/bad/NAME.hex` must give exactly its error. A file is lines of hexadecimal bytes, where
//! `00*N` is a byte repeated; `#` starts a comment; `key: text` lines say how the bytes are read.
//! To write the files anew from the samples: `UNDERSTUDY_BLESS=1 cargo test -p understudy-format
//! --test it vectors`. A change to a released file is a change of the format: see SPEC.md, "Changes".
//! To write seeds for the fuzz targets into `fuzz/corpus`: `UNDERSTUDY_SEEDS=1` and the same.

use crate::decoders::{WITH, decode, round_trip};
use crate::samples::{Part, good};
use crate::samples_bad::bad;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Longer values are left out of the files; they are still compared with the sample's.
const VALUE_MAX: usize = 4000;

/// A vector as it stands in its file.
struct Vector {
    decoder: String,
    with: u64,
    value: Option<String>,
    error: Option<String>,
    exact_error: Option<String>,
    bytes: Vec<u8>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name)
}

fn parse(text: &str) -> Vector {
    let key = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).map(str::to_owned);
    let hex = text.lines().filter(|line| !line.contains(": ")).map(|line| line.split('#').next().unwrap_or(""));
    Vector {
        decoder: key("decoder").expect("every vector names its decoder"),
        with: key("with").map_or(0, |with| with.parse().expect("a number")),
        value: key("value"),
        error: key("error"),
        exact_error: key("exact error"),
        bytes: hex.flat_map(str::split_whitespace).flat_map(parse_group).collect(),
    }
}

fn parse_group(group: &str) -> Vec<u8> {
    let (digits, times) = group.split_once('*').unwrap_or((group, "1"));
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    bytes.repeat(times.parse().expect("a number of times"))
}

fn hex(bytes: &[u8]) -> String {
    match bytes {
        [first, ..] if bytes.len() > 8 && bytes.iter().all(|byte| byte == first) => {
            format!("{first:02x}*{}", bytes.len())
        }
        _ => bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all");
            text
        }),
    }
}

/// The bytes with the names of their fields, as far as there are tables for them.
fn annotated(bytes: &[u8], parts: &[Part]) -> String {
    let (mut text, mut at) = (String::new(), 0);
    for (name, rows) in parts {
        for row in *rows {
            let end = at + row.size;
            writeln!(text, "{} # {name}.{}", hex(&bytes[at..end]), row.name).expect("a string takes all");
            at = end;
        }
    }
    for group in bytes[at..].chunk_by(|a, b| a == b).collect::<Vec<_>>().chunk_by(|a, b| a.len() < 9 && b.len() < 9) {
        for line in group.concat().chunks(if group[0].len() < 9 { 32 } else { usize::MAX }) {
            writeln!(text, "{}", hex(line)).expect("a string takes all");
        }
    }
    text
}

fn header(decoder: &str, with: u64) -> String {
    match with {
        0 => format!("decoder: {decoder}\n"),
        _ => format!("decoder: {decoder}\nwith: {with}\n"),
    }
}

fn asked(what: &str) -> bool {
    std::env::var_os(what).is_some_and(|value| value == "1")
}

/// The vectors of a folder by name, after writing them anew when that was asked for.
fn vectors(name: &str, texts: Vec<(String, String)>) -> Vec<(String, Vector)> {
    let folder = folder(name);
    if asked("UNDERSTUDY_BLESS") {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        texts.iter().for_each(|(name, text)| std::fs::write(folder.join(format!("{name}.hex")), text).unwrap());
    }
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let expected: BTreeSet<String> = texts.iter().map(|(name, _)| format!("{name}.hex")).collect();
    assert_eq!(files.collect::<BTreeSet<_>>(), expected, "one file for each sample, and no others");
    let read = |name: &str| parse(&std::fs::read_to_string(folder.join(format!("{name}.hex"))).unwrap());
    texts.iter().map(|(name, _)| (name.clone(), read(name))).collect()
}

#[test]
fn good_vectors_are_read_and_written_alike() {
    let samples = good();
    let value = |value: &str| if value.len() <= VALUE_MAX { format!("value: {value}\n") } else { String::new() };
    let text = samples.iter().map(|s| {
        let head = header(s.decoder, s.with) + &value(&s.value);
        (s.name.clone(), head + &annotated(&s.bytes, &s.parts))
    });
    for (sample, (name, vector)) in samples.iter().zip(vectors("good", text.collect())) {
        let decoded = round_trip(&vector.decoder, vector.with, &vector.bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(decoded.value, sample.value, "{name}");
        assert_eq!(vector.value.as_ref().unwrap_or(&sample.value), &sample.value, "{name}");
        assert_eq!(decoded.bytes, vector.bytes, "{name}: encoded again");
        assert_eq!(sample.bytes, vector.bytes, "{name}: the sample's encoding");
    }
}

#[test]
fn bad_vectors_give_exactly_their_error() {
    let samples = bad();
    let text = samples.iter().map(|s| {
        let error = format!("error: {}\nexact error: {:?}\n", s.error, s.error);
        (s.name.clone(), header(s.decoder, s.with) + &error + &annotated(&s.bytes, &[]))
    });
    for (sample, (name, vector)) in samples.iter().zip(vectors("bad", text.collect())) {
        let found = decode(&vector.decoder, vector.with, &vector.bytes).expect_err(&name);
        assert_eq!(found, sample.error, "{name}");
        assert_eq!(Some(found.to_string()), vector.error, "{name}");
        assert_eq!(Some(format!("{found:?}")), vector.exact_error, "{name}");
        assert_eq!(sample.bytes, vector.bytes, "{name}: the sample's bytes");
    }
}

#[test]
fn every_message_has_a_vector() {
    let named: BTreeSet<&str> = crate::samples::messages().iter().map(|(_, message)| message.name()).collect();
    let tags: BTreeSet<&str> = understudy_format::wire::tags().map(|(_, name)| name).collect();
    assert_eq!(named, tags);
}

/// One flipped bit in any vector that has a checksum of its own is never read as another value.
#[test]
fn flipped_bits_of_vectors_are_errors() {
    let own = [
        "frame",
        "message",
        "chunk",
        "begin",
        "commit",
        "segment",
        "record",
        "trailer",
        "mapfile",
        "page",
        "pool",
        "secondary",
        "follow",
        "overlay",
        "owned",
        "journal",
        "entries",
        "tap",
    ];
    for sample in good().into_iter().filter(|s| own.contains(&s.decoder) && s.name != "record-pad") {
        for bit in 0..sample.bytes.len() * 8 {
            let mut bytes = sample.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(sample.decoder, sample.with, &bytes).is_err(), "{}: bit {bit}", sample.name);
        }
    }
}

/// No vector can be cut short and still be read, but where each entry counts by itself.
#[test]
fn truncated_vectors_are_errors() {
    let digests = |decoder: &str| decoder.starts_with("digest") || ["footer", "journal", "entries"].contains(&decoder);
    for sample in good().into_iter().filter(|s| !digests(s.decoder) && s.name != "record-pad") {
        for length in 0..sample.bytes.len() {
            let cut = decode(sample.decoder, sample.with, &sample.bytes[..length]);
            assert!(cut.is_err(), "{}: cut to {length} bytes", sample.name);
        }
    }
}

/// Not a check: writes seeds for the fuzz targets, when asked to.
#[test]
fn seeds_for_the_fuzz_targets() {
    if !asked("UNDERSTUDY_SEEDS") {
        return;
    }
    let good = good().into_iter().map(|s| (s.name, s.decoder, s.with, s.bytes));
    let bad = bad().into_iter().map(|s| (s.name, s.decoder, s.with, s.bytes));
    let is_target = |decoder: &str| decoder != "root" && !decoder.starts_with("digest");
    let seeds = good.chain(bad).chain(crate::streams::seeds());
    for (name, decoder, with, bytes) in seeds.filter(|(_, decoder, ..)| is_target(decoder)) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(decoder);
        std::fs::create_dir_all(&folder).unwrap();
        let with = if WITH.contains(&decoder) { with.to_le_bytes().to_vec() } else { vec![] };
        std::fs::write(folder.join(name), [with, bytes].concat()).unwrap();
    }
}
