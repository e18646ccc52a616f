//! Commands that the agent runs: each in a process group of its own, with a time limit, and ended when it is told to.
//!
//! Invariants: the whole group gets the signals, so nothing that a hook started stays; TERM comes first, KILL when that does not help;
//! of what a command writes the end is kept, a bounded part.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// How long a command has to end after it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long somebody else may hold the output of a command that ended.
const HELD_MAX: Duration = Duration::from_secs(1);
/// Bytes that are kept of an output.
const KEPT: usize = 2048;

/// Whether what runs is to end early.
pub type Cancel = watch::Receiver<bool>;

/// How a command ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// Its time was up.
    TimedOut,
    /// It was told to.
    Cancelled,
}

/// A command with pipes for what it writes.
pub fn command(program: &Path, words: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(words).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for the end of a command, and makes one when the time is up or it is cancelled.
pub async fn finish(child: &mut Child, limit: Option<Duration>, cancel: &mut Cancel) -> std::io::Result<Ended> {
    let time_up = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        status = child.wait() => return status.map(Ended::Exited),
        () = time_up => Ended::TimedOut,
        () = cancelled(cancel) => Ended::Cancelled,
    };
    end(child).await?;
    Ok(ended)
}

/// Returns when it is to end; never when nobody can say so any more.
pub async fn cancelled(cancel: &mut Cancel) {
    if cancel.wait_for(|cancelled| *cancelled).await.is_err() {
        std::future::pending().await
    }
}

async fn end(child: &mut Child) -> std::io::Result<()> {
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    let signal = |signal| {
        if let Some(group) = group {
            // It may have ended just now.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    };
    signal(rustix::process::Signal::TERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        signal(rustix::process::Signal::KILL);
        child.wait().await?;
    }
    // What it started and did not end itself.
    signal(rustix::process::Signal::KILL);
    Ok(())
}

/// The end of what is written to a pipe; gathered until it is asked for.
#[derive(Debug)]
pub struct Tail(tokio::task::JoinHandle<Vec<u8>>);

impl Tail {
    /// Gathers.
    pub fn of(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        Self(tokio::spawn(async move {
            let (mut kept, mut buffer) = (Vec::new(), vec![0; 4096]);
            let Some(mut pipe) = pipe else { return kept };
            while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
                kept.extend_from_slice(&buffer[..count]);
                kept.drain(..kept.len().saturating_sub(KEPT));
            }
            kept
        }))
    }

    /// As text, without the blanks around it.
    pub async fn text(self) -> String {
        let kept = tokio::time::timeout(HELD_MAX, self.0).await;
        String::from_utf8_lossy(&kept.ok().and_then(Result::ok).unwrap_or_default()).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        command(Path::new("/bin/sh"), &["-c".into(), script.into()]).spawn().unwrap()
    }

    #[tokio::test]
    async fn what_takes_too_long_is_ended_with_all_that_it_started() {
        let (_keep, mut cancel) = watch::channel(false);
        let mut child = shell("echo begun; sleep 1000 & wait $!; echo ended");
        let ended = finish(&mut child, Some(Duration::from_millis(50)), &mut cancel).await.unwrap();
        assert!(matches!(ended, Ended::TimedOut));
        assert_eq!(Tail::of(child.stdout.take()).text().await, "begun");
    }

    #[tokio::test]
    async fn what_is_cancelled_is_asked_to_end_first() {
        let (cancelling, mut cancel) = watch::channel(false);
        let mut child = shell("trap 'echo asked; exit 0' TERM; echo begun; while :; do sleep 0.05; done");
        let mut out = child.stdout.take().unwrap();
        let mut line = [0; 6];
        out.read_exact(&mut line).await.unwrap();
        cancelling.send_replace(true);
        assert!(matches!(finish(&mut child, None, &mut cancel).await.unwrap(), Ended::Cancelled));
        assert_eq!(Tail::of(Some(out)).text().await, "asked");
    }

    #[tokio::test]
    async fn of_what_is_written_the_end_is_kept() {
        let mut child = shell("i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done");
        let tail = Tail::of(child.stdout.take());
        let (_keep, mut cancel) = watch::channel(false);
        assert!(
            matches!(finish(&mut child, None, &mut cancel).await.unwrap(), Ended::Exited(status) if status.success())
        );
        let text = tail.text().await;
        assert!(text.len() <= KEPT && text.ends_with("2998\n2999"), "{text}");
    }
}
