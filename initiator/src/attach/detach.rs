//! `understudy detach` and `understudy attached`.
//!
//! Invariants: steps are undone in reverse order, and each is forgotten once it is undone, so a detach that failed goes
//! on where it failed; a scratch overlay stays at the appliance.

use super::record::{Attachment, Attachments};
use super::step::Step;
use crate::args::{Attached, Detach};
use crate::outcome::Outcome;
use crate::report::{Lines, Report};
use crate::text;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::time::Duration;

/// The kernel lets go of a loop device a moment after its filesystem is unmounted: how long is waited for that.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
const TRIES: u32 = 100;

/// `understudy detach`.
pub async fn run(args: &Detach) -> Result<Outcome> {
    let attachments = Attachments::lock(&args.state.directory())?;
    let mut attachment = find(&attachments, &args.name)?;
    undo(&attachments, &mut attachment).await?;
    let Attachment { export, writable, .. } = &attachment;
    let mut line = format!("{export} is detached");
    if let (true, Some(name)) = (*writable, export.strip_suffix("+w")) {
        line += &format!(
            "; its scratch overlay stays: `understudy attach {name} --rw` attaches it again, \
             `understudy attach keep {name} --as NEWVOLUME` keeps it, `understudy attach discard {name}` discards it"
        );
    }
    Report::new(args.json, Lines::Output).tell(json!({"event": "detached", "export": export}), &line);
    Ok(Outcome::Done)
}

/// The one attachment that is meant.
fn find(attachments: &Attachments, text: &str) -> Result<Attachment> {
    let all = attachments.all()?;
    let exports = |all: &[Attachment]| all.iter().map(|one| one.export.as_str()).collect::<Vec<_>>().join(", ");
    let meant: Vec<Attachment> = all.iter().filter(|one| one.is_meant_by(text)).cloned().collect();
    match &meant[..] {
        [one] => Ok(one.clone()),
        [] if all.is_empty() => bail!("{text}: nothing is attached on this host"),
        [] => bail!("{text}: that is not attached; attached are {}", exports(&all)),
        several => bail!("{text}: several of these are attached, name one: {}", exports(several)),
    }
}

/// Undoes what was done, in reverse order.
pub async fn undo(attachments: &Attachments, attachment: &mut Attachment) -> Result<()> {
    while let Some(step) = attachment.steps.last() {
        if let (true, true, Step::Kernel { .. } | Step::Fuse { .. }) = (attachment.writable, step.is_there(), step) {
            // What was written past a filesystem; one that cannot be told any more is detached all the same.
            let _ = std::fs::File::open(&attachment.disk).and_then(|disk| disk.sync_all());
        }
        undo_step(step).await?;
        attachment.steps.pop();
        attachments.save(attachment)?;
    }
    attachments.forget(attachment)
}

async fn undo_step(step: &Step) -> Result<()> {
    // Who uses a mount must be told; what is under one is busy for a moment only.
    let tries = if matches!(step, Step::Mount { .. }) { 1 } else { TRIES };
    for _ in 1..tries {
        if step.undo().is_ok() {
            return Ok(());
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    step.undo()
}

/// `understudy attached`.
pub fn list(args: &Attached) -> Result<Outcome> {
    let all = Attachments::lock(&args.state.directory())?.all()?;
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let text = match args.json {
        true => Value::Array(all.iter().map(to_json).collect()).to_string(),
        false => text::table(&["EXPORT", "DISK", "MOUNT", "FILESYSTEM", "SINCE", "STATE"], &rows),
    };
    crate::list::print(&text)
}

fn state(attachment: &Attachment) -> String {
    attachment.trouble().unwrap_or_else(|| "attached".to_owned())
}

fn row(one: &Attachment) -> Vec<String> {
    let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let mount = one.mount().map(|path| path.display().to_string());
    let filesystem = mount.as_ref().map(|_| format!("{} {}", one.filesystem, if one.writable { "rw" } else { "ro" }));
    vec![
        one.export.clone(),
        shown(&one.disk.display().to_string()),
        mount.unwrap_or("-".into()),
        filesystem.unwrap_or("-".into()),
        one.since.clone(),
        state(one),
    ]
}

fn to_json(one: &Attachment) -> Value {
    json!({
        "export": one.export, "volume": one.volume, "server": one.server, "disk": one.disk, "mount": one.mount(),
        "filesystem": one.mount().map(|_| &one.filesystem), "options": one.mount().map(|_| &one.options),
        "writable": one.writable, "since": one.since, "state": state(one),
    })
}
