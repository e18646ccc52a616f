//! Configurations of agents as people write them, and what is said of those that are wrong.

use super::*;

fn read(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.yaml");
    std::fs::write(&file, format!("version: 1\nname: host\n{text}")).unwrap();
    Config::read(&file).map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

#[test]
fn all_keys_have_their_meaning() {
    let config = read(
        "appliance: backup:7410\nstate-dir: /srv/state\nkeep-alive: 5s\nreconnect: 1m30s\nlimits: {runs: 2}\nlog: {level: debug}\n\
         volumes:\n  mail: {source: /dev/vg/mail, block-size: 16K, size: 2G}\n  db: {source: 'nbd://db/x', bitmap: b0}\n\
         targets:\n  spare: {path: /dev/vg/spare, overwrite: true}\n  new: {path: /srv/new.raw}\n\
         brackets:\n  b: {pre: [/bin/freeze, /srv], post: [/bin/thaw, /srv], pre-timeout: 7s, post-timeout: 9s}\n",
    )
    .unwrap();
    assert_eq!((config.appliance.as_str(), config.name.as_str(), config.runs_max), ("backup:7410", "host", 2));
    assert_eq!((config.keep_alive, config.reconnect), (Duration::from_secs(5), Duration::from_secs(90)));
    let (mail, db): (VolumeName, VolumeName) = ("mail".parse().unwrap(), "db".parse().unwrap());
    assert_eq!((config.volumes[&mail].size, config.volumes[&db].bitmap.as_deref()), (2 << 30, Some("b0")));
    let overwritten: Vec<bool> = config.targets.values().map(|target| target.overwrite).collect();
    assert_eq!(overwritten, [false, true]);
    let bracket = config.brackets.values().next().unwrap();
    assert_eq!(
        (&bracket.post[..], bracket.post_timeout),
        (&["/bin/thaw".to_owned(), "/srv".to_owned()][..], Duration::from_secs(9))
    );
    let announcement = config.announcement();
    assert_eq!(
        (announcement.volumes[1].size, announcement.targets.len(), announcement.brackets.len()),
        (2 << 30, 2, 1)
    );
    assert!(config.warnings.is_empty());
}

#[test]
fn mistakes_are_told_with_place_and_what_is_accepted() {
    let cases = [
        (
            "volume: {}\n",
            "3:1: unknown key \"volume\"; did you mean \"volumes\"? Accepted here: version, include, appliance, identity, name, state-dir, keep-alive, reconnect, limits, log, volumes, targets, brackets",
        ),
        (
            "volumes:\n  ../etc: {source: /x}\n",
            "4:11: volumes.../etc: volume name: \"../etc\": expected 1 to 128 of letters, digits, '.', '_', '-', starting with a letter or digit",
        ),
        (
            "volumes:\n  a: {source: disk.raw}\n",
            "4:15: volumes.a.source: \"disk.raw\" is no absolute path: expected one that starts with /",
        ),
        (
            "volumes:\n  a: {source: 'nbd://'}\n",
            "4:15: volumes.a.source: source nbd://: expected nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH (nbds, nbds+unix for TLS)",
        ),
        (
            "volumes:\n  a: {source: /x, bitmap: b}\n",
            "4:15: volumes.a.source: source /x: only NBD exports have dirty bitmaps: leave out --bitmap",
        ),
        (
            "targets:\n  a: {path: x}\n",
            "4:13: targets.a.path: \"x\" is no absolute path: expected one that starts with /",
        ),
        (
            "brackets:\n  a: {}\n",
            "4:6: brackets.a: expected `pre`, `post` or both: a command and its arguments as a list",
        ),
        (
            "brackets:\n  a: {pre: [rm, -rf]}\n",
            "4:12: brackets.a.pre: \"rm\" is no absolute path: expected one that starts with /",
        ),
        (
            "brackets:\n  a: {pre: [/bin/x], pre-timeout: soon}\n",
            "4:35: brackets.a.pre-timeout: \"soon\" is no length of time: expected one such as 30s, 5m or 1h30m",
        ),
        ("keep-alive: 1ms\n", "3:13: keep-alive: \"1ms\" is out of range: expected 100ms to 3600s"),
        ("limits: {runs: 0}\n", "3:16: limits.runs: 0 is no limit: expected 1 to 65536"),
    ];
    let said: Vec<String> = cases.iter().map(|(text, _)| read(text).unwrap_err()).collect();
    let expected: Vec<String> = cases.iter().map(|(_, expected)| format!("agent.yaml:{expected}")).collect();
    assert_eq!(said.join("\n"), expected.join("\n"));
}

#[test]
fn an_agent_without_anything_to_do_is_warned_of() {
    let config = read("").unwrap();
    assert!(config.warnings[0].reason.contains("nothing to do"), "{:?}", config.warnings);
}
