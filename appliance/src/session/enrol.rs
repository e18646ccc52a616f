//! The session of a host that has no certificate: it may become a client by a token, and nothing else.
//!
//! Invariants: it learns nothing of the pool, not even its name; what it sends is short; whatever it says, the session ends with the answer.

use super::{HELLO_MAX, SOFTWARE, Shared, check_version, fail, linger};
use std::net::SocketAddr;
use std::sync::Arc;
use understudy_format::wire::Message;
use understudy_net::NetError;
use understudy_net::framed::{Incoming, MessageReader, MessageWriter, Outgoing};
use uuid::Uuid;

/// Most bytes of the body of a message.
const BODY_MAX: u32 = 4 << 10;

/// Serves a connection from `address` that showed no certificate.
pub async fn serve(shared: Arc<Shared>, from: Incoming, to: Outgoing, address: SocketAddr) -> Result<(), NetError> {
    let (mut reader, mut writer) = (MessageReader::new(from, HELLO_MAX), MessageWriter::new(to, HELLO_MAX));
    reader.set_body_max(BODY_MAX);
    let result = answer(&shared, &mut reader, &mut writer, address).await;
    if let Err(error) = &result {
        shared.access.refuse(address, "a session without a certificate that brought no token").await;
        fail(&mut writer, error.kind(), error.to_string()).await;
    }
    linger(reader, writer).await;
    result
}

async fn answer(
    shared: &Arc<Shared>,
    reader: &mut MessageReader<Incoming>,
    writer: &mut MessageWriter<Outgoing>,
    address: SocketAddr,
) -> Result<(), NetError> {
    let version = match reader.expect("Hello").await? {
        Message::Hello { version, .. } => check_version(version)?,
        other => return Err(NetError::Unexpected { expected: "Hello", found: other.name() }),
    };
    let (software, nbd) = (SOFTWARE.to_owned(), String::new());
    writer.send(&Message::Welcome { version, pool: Uuid::nil(), software, nbd }).await?;
    let (secret, key) = match reader.expect("Enrol").await? {
        Message::Enrol { secret, key } => (secret, key),
        other => {
            return Err(NetError::Unexpected { expected: "Enrol, for no certificate was shown", found: other.name() });
        }
    };
    let access = shared.access.clone();
    let redeem = move || access.redeem(&secret, &key, &address.to_string());
    let redeemed = tokio::task::spawn_blocking(redeem).await.map_err(|e| std::io::Error::other(e.to_string()))?;
    match redeemed {
        Ok(identity) => writer.send(&Message::Identity(identity)).await,
        Err(error) => {
            fail(writer, error.kind(), error.to_string()).await;
            Ok(())
        }
    }
}
