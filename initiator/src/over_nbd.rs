//! Reading a point back over NBD with a client that is not ours, and comparing its root.
//!
//! Invariant: nothing of this project's NBD code takes part; what is compared is what any other NBD
//! client would get (`NBD_OPT_EXPORT_NAME`, simple replies).

use crate::cutter::PIECE_MAX;
use crate::map_writer::MapWriter;
use crate::outcome::Outcome;
use crate::report::Report;
use crate::text;
use anyhow::{Context, Result, anyhow};
use nbd::client::{NbdClient, handshake};
use serde_json::json;
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;
use understudy_format::Digest;
use understudy_format::point::Point;

const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Reads the export at `address` and compares it with `point`.
pub fn verify(address: &str, export: &str, point: &Point, mut report: Report) -> Result<Outcome> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("NBD server {address}: cannot connect"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let context = || format!("NBD server {address}, export {export}");
    let opened = handshake(&mut stream, export.as_bytes()).with_context(context)?;
    let geometry = point.map.geometry;
    if opened.size != geometry.volume_size() {
        let (own, expected) = (opened.size, geometry.volume_size());
        let event =
            json!({"event": "different", "source": address, "point": export, "size": own, "point_size": expected});
        report.tell(event, &format!("not identical: export {export} has {own} bytes, the point has {expected}"));
        return Ok(Outcome::Different);
    }
    report.begin("reading", opened.size);
    let root = read_root(NbdClient::new(&mut stream, &opened), point, &mut report).with_context(context)?;
    let seconds = report.elapsed().as_secs_f64();
    let size = text::bytes(opened.size);
    let identical = root == point.map.root();
    let line = match identical {
        true => {
            format!("identical: export {export} at {address} and its point, {size}, {seconds:.1} s\nroot:   {root}")
        }
        false => format!("not identical: export {export} at {address} has root {root}, its point {}", point.map.root()),
    };
    let event = json!({
        "event": if identical { "identical" } else { "different" }, "source": address, "point": export, "size": opened.size,
        "root": root.to_string(), "point_root": point.map.root().to_string(),
    });
    report.tell(event, &line);
    Ok(if identical { Outcome::Done } else { Outcome::Different })
}

/// Reads from start to end; another thread digests what was read before.
fn read_root(mut from: impl Read, point: &Point, report: &mut Report) -> Result<Digest> {
    let geometry = point.map.geometry;
    let (pieces, to_digest) = crossbeam_channel::bounded::<Vec<u8>>(2);
    let (used, to_fill) = crossbeam_channel::bounded::<Vec<u8>>(4);
    (0..3).try_for_each(|_| used.send(vec![0; PIECE_MAX]))?;
    std::thread::scope(|scope| {
        let digester = scope.spawn(move || -> Result<Digest> {
            let mut map = MapWriter::new(geometry, None)?;
            for piece in to_digest {
                let blocks = piece.chunks(geometry.block_size().bytes() as usize);
                map.blocks(&blocks.map(Digest::of_block).collect::<Vec<_>>())?;
                // The reader is gone when it has read all.
                let _ = used.send(piece);
            }
            if map.next_block() < geometry.block_count() {
                return Err(anyhow!("reading ended early"));
            }
            Ok(map.finish()?.root())
        });
        let read = fill(&mut from, geometry.volume_size(), &to_fill, &pieces, report);
        drop((pieces, to_fill));
        let digested = digester.join().map_err(|_| anyhow!("the digesting thread panicked"))?;
        read?;
        digested
    })
}

fn fill(
    from: &mut impl Read,
    size: u64,
    to_fill: &crossbeam_channel::Receiver<Vec<u8>>,
    pieces: &crossbeam_channel::Sender<Vec<u8>>,
    report: &mut Report,
) -> Result<()> {
    let mut done = 0;
    while done < size {
        let mut piece = to_fill.recv()?;
        piece.resize((size - done).min(PIECE_MAX as u64) as usize, 0);
        from.read_exact(&mut piece).with_context(|| format!("reading at offset {done}"))?;
        done += piece.len() as u64;
        pieces.send(piece)?;
        report.progress(done, done);
    }
    report.end();
    Ok(())
}
