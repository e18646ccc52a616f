//! What cannot change while the daemon runs: the pool, the sockets, limits, the time zone, the form of the log.

use crate::args::{Serve, Switch};
use crate::error::{Error, Result};
use crate::nbd_terms::{NbdTerms, NbdTls};
use jiff::tz::TimeZone;
use std::path::PathBuf;
use understudy_config::log::LogFormat;

/// Where initiators connect, unless something else is said.
const LISTEN: &str = "127.0.0.1:7410";
/// Where points are exported over NBD, unless something else is said.
const NBD: &str = "127.0.0.1:10809";
/// Initiators that are connected at the same time, unless something else is said.
const SESSIONS: u32 = 256;

/// As far as the files say it.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub(super) pool: Option<PathBuf>,
    pub(super) listen: Option<String>,
    pub(super) nbd: Option<String>,
    pub(super) tls: Option<bool>,
    pub(super) tls_names: Option<Vec<String>>,
    pub(super) append_only: Option<bool>,
    pub(super) nbd_socket: Option<PathBuf>,
    pub(super) time_zone: Option<TimeZone>,
    pub(super) sessions: Option<u32>,
    pub(super) nbd_terms: NbdTerms,
    pub(super) log_format: Option<LogFormat>,
}

/// What the daemon goes by from its start to its end.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// The pool's directory.
    pub pool: PathBuf,
    /// Where initiators connect.
    pub listen: String,
    /// Where points are exported over NBD.
    pub nbd: String,
    /// Whether who connects must say who he is.
    pub tls: bool,
    /// More names by which other programs reach this host.
    pub tls_names: Vec<String>,
    /// Whether no client takes anything away.
    pub append_only: bool,
    /// A unix socket for the same.
    pub nbd_socket: Option<PathBuf>,
    /// Of schedules, days and times without a zone of their own.
    pub zone: TimeZone,
    /// Initiators that are connected at the same time.
    pub sessions: usize,
    /// On what terms points are exported.
    pub nbd_terms: NbdTerms,
    /// How lines of the log are written.
    pub log_format: LogFormat,
}

impl Fixed {
    /// The flags, then the files, then what is usual.
    pub fn of(flags: &Serve, given: &Given) -> Result<Self> {
        let given = given.clone();
        let pool = flags.pool.clone().or(given.pool).ok_or_else(|| {
            Error::refused("no pool is named: add `pool: DIR` to the configuration, or --pool DIR to the command")
        })?;
        let tls = flags.tls.map(|tls| tls == Switch::On).or(given.tls).unwrap_or(false);
        let append_only = given.append_only.unwrap_or(false);
        if append_only && !tls {
            return Err(Error::refused("append-only: there are clients only with `tls: on`: add that"));
        }
        let nbd_terms = flags.nbd_terms.or(&given.nbd_terms);
        if tls && nbd_terms.nbd_tls == Some(NbdTls::Off) {
            return Err(Error::refused(
                "nbd-tls: off would let anybody read by NBD what `tls: on` protects: leave nbd-tls out",
            ));
        }
        if tls && nbd_terms.lets_in_the_clear() {
            return Err(Error::refused(
                "nbd-tls-certificates: with `tls: on` NBD must not be served in the clear: add `nbd-tls: require`",
            ));
        }
        Ok(Self {
            pool,
            tls,
            tls_names: given.tls_names.unwrap_or_default(),
            append_only,
            listen: flags.listen.clone().or(given.listen).unwrap_or_else(|| LISTEN.to_owned()),
            nbd: flags.nbd.clone().or(given.nbd).unwrap_or_else(|| NBD.to_owned()),
            nbd_socket: flags.nbd_socket.clone().or(given.nbd_socket),
            zone: given.time_zone.unwrap_or_else(TimeZone::system),
            sessions: given.sessions.unwrap_or(SESSIONS) as usize,
            nbd_terms,
            log_format: given.log_format.unwrap_or_default(),
        })
    }

    /// Whether NBD goes by terms of its own, and not by those of access control.
    pub fn nbd_is_foreign(&self) -> bool {
        !self.tls || self.nbd_terms.nbd_tls_certificates.is_some()
    }

    /// The keys of what is different in `new`.
    pub fn changed(&self, new: &Self) -> Vec<&'static str> {
        let (limits, new_limits) = (self.nbd_terms.limits(), new.nbd_terms.limits());
        let all = [
            ("pool", self.pool != new.pool),
            ("listen", self.listen != new.listen),
            ("nbd", self.nbd != new.nbd),
            ("tls", self.tls != new.tls),
            ("tls-names", self.tls_names != new.tls_names),
            ("append-only", self.append_only != new.append_only),
            ("nbd-socket", self.nbd_socket != new.nbd_socket),
            ("time-zone", self.zone != new.zone),
            ("limits.sessions", self.sessions != new.sessions),
            ("nbd-tls", self.nbd_terms.nbd_tls != new.nbd_terms.nbd_tls),
            ("nbd-tls-certificates", self.nbd_terms.nbd_tls_certificates != new.nbd_terms.nbd_tls_certificates),
            ("limits.nbd-connections", limits.connections != new_limits.connections),
            ("limits.nbd-connections-per-export", limits.connections_per_export != new_limits.connections_per_export),
            ("log.format", self.log_format != new.log_format),
        ];
        all.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
    }
}
