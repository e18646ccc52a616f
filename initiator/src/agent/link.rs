//! The session to the appliance, held for ever: connected again after whatever ended it.
//!
//! Invariants: the wait before a try is bounded and never the same for two agents; a session counts as lost when nothing came for the
//! silence that was announced, however the network looks; nothing here knows what is said.

use crate::args::ApplianceArguments;
use crate::clock;
use crate::connection::Appliance;
use crate::retry;
use crate::text::one_line;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use understudy_format::wire::{Control, Message};
use understudy_net::framed::{MessageReader, MessageWriter};

/// Signs of life within the silence that ends a session.
const SIGNS: u32 = 3;
/// Messages that wait for the appliance: more than there can be reports.
const QUEUE: usize = 1024;

/// To whom, and on what terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// `HOST:PORT`.
    pub appliance: String,
    /// Where it stands who this host is to it.
    pub identity: Option<PathBuf>,
    /// How long a session may be silent.
    pub silence: Duration,
    /// The longest wait before connecting again.
    pub delay_max: Duration,
}

/// What becomes of the session.
#[derive(Debug)]
pub enum Heard {
    /// There is one: this goes to the appliance, and the first must be an announcement.
    Up(mpsc::Sender<Control>),
    /// The appliance said something.
    Said(Control),
    /// There is none any more, or none came to be; why, and when the next try is.
    Down(String, Duration),
}

/// Holds a session, for ever.
pub async fn hold(terms: Terms, tell: mpsc::Sender<Heard>) {
    let mut tries = 0;
    while !tell.is_closed() {
        let ended = session(&terms, &tell, &mut tries).await;
        let why = ended.err().map_or("the session is over".to_owned(), |error| one_line(&error));
        let wait = retry::endless(tries, clock::random_number(), terms.delay_max);
        tries += 1;
        let _ = tell.send(Heard::Down(why, wait)).await;
        tokio::time::sleep(wait).await;
    }
}

async fn session(terms: &Terms, tell: &mpsc::Sender<Heard>, tries: &mut u32) -> Result<()> {
    let Appliance { mut reader, mut writer, .. } =
        Appliance::connect(&ApplianceArguments::at(terms.appliance.clone(), terms.identity.clone())).await?;
    reader.set_idle_max(terms.silence);
    writer.set_idle_max(terms.silence);
    let (say, said) = mpsc::channel(QUEUE);
    tell.send(Heard::Up(say)).await?;
    tokio::select! {
        ended = listen(&mut reader, tell, tries) => ended,
        ended = speak(&mut writer, said, terms.silence / SIGNS) => ended,
    }
}

async fn listen<R: AsyncRead + Unpin>(
    reader: &mut MessageReader<R>,
    tell: &mpsc::Sender<Heard>,
    tries: &mut u32,
) -> Result<()> {
    loop {
        match reader.expect("a message to an agent").await? {
            // It answers: this address is right, and the next loss is another one.
            Message::Control(Control::Pong) => *tries = 0,
            Message::Control(control) => tell.send(Heard::Said(control)).await?,
            other => bail!("expected a message to an agent, the appliance sent {}", other.name()),
        }
    }
}

async fn speak<W: AsyncWrite + Unpin>(
    writer: &mut MessageWriter<W>,
    mut said: mpsc::Receiver<Control>,
    every: Duration,
) -> Result<()> {
    let mut sign = tokio::time::interval(every);
    // The first is at once, and the announcement comes before it.
    sign.tick().await;
    loop {
        let control = tokio::select! {
            biased;
            control = said.recv() => match control {
                Some(control) => control,
                None => return Ok(()),
            },
            _ = sign.tick() => Control::Ping,
        };
        writer.send(&control.into()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of a session over a pipe.
    fn pipe() -> (tokio::io::DuplexStream, tokio::io::DuplexStream) {
        tokio::io::duplex(1 << 16)
    }

    #[tokio::test(start_paused = true)]
    async fn an_appliance_that_says_nothing_is_noticed() {
        let (own, _silent) = pipe();
        let (tell, _told) = mpsc::channel(9);
        let mut reader = MessageReader::new(own, Duration::from_secs(30));
        let error = listen(&mut reader, &tell, &mut 0).await.unwrap_err();
        assert!(error.to_string().contains("for 30 s"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_are_given_when_there_is_nothing_to_say() {
        let (own, other) = pipe();
        let (say, said) = mpsc::channel(9);
        say.send(Control::Taken { run: uuid::Uuid::nil() }).await.unwrap();
        let speaking = async move {
            let mut writer = MessageWriter::new(own, Duration::from_secs(30));
            speak(&mut writer, said, Duration::from_secs(10)).await
        };
        let hearing = async move {
            let mut reader = MessageReader::new(other, Duration::from_secs(60));
            let mut heard = Vec::new();
            for _ in 0..3 {
                heard.push(reader.next().await.unwrap().unwrap());
            }
            drop(say);
            heard
        };
        let (spoken, heard) = tokio::join!(speaking, hearing);
        spoken.unwrap();
        let taken = Control::Taken { run: uuid::Uuid::nil() };
        assert_eq!(heard, [taken, Control::Ping, Control::Ping].map(Message::Control));
    }

    #[tokio::test]
    async fn a_session_that_is_answered_gives_all_patience_back() {
        let (own, other) = pipe();
        let (tell, _told) = mpsc::channel(9);
        let mut writer = MessageWriter::new(other, Duration::from_secs(30));
        writer.send(&Control::Pong.into()).await.unwrap();
        drop(writer);
        let mut tries = 7;
        let mut reader = MessageReader::new(own, Duration::from_secs(30));
        listen(&mut reader, &tell, &mut tries).await.unwrap_err();
        assert_eq!(tries, 0);
    }
}
