//! Failing over to the appliance, and back to a primary.
//!
//! Promoted, the end of a volume's journal is a point, and what is written goes to the scratch overlay over it; failing back, what the overlay
//! shows becomes the next point, and a primary becomes that. Invariants: the role ([`crate::journals::Switch`]) is the one that is durable, and each step may
//! be asked for again whatever became of its answer; nothing that was written is given up but by [`Failover::demote`]; an overlay is
//! discarded only after the role that needs it no more is durable.

use crate::clock;
use crate::error::{Error, Result};
use crate::fold::Folder;
use crate::journals::{Journals, Switch};
use crate::overlay::{Given, Overlays};
use crate::pool::{Pool, VolumeEntry};
use crate::secondary::Secondaries;
use std::sync::Arc;
use understudy_format::follow::{Role, State};
use understudy_format::journal::Position;
use understudy_format::point::{Point, Volume, VolumeName};
use understudy_format::text;
use understudy_format::wire::{Failover as Wire, Message, OverlayInfo, Tap};

/// One volume, and what has to do with which side of it is written to.
#[derive(Debug, Clone, Copy)]
pub struct Failover<'a> {
    /// The pool.
    pub pool: &'a Arc<Pool>,
    /// What taps write down.
    pub journals: &'a Arc<Journals>,
    /// Where a promoted volume is written to.
    pub overlays: &'a Overlays,
    /// Where new points are applied.
    pub secondaries: &'a Secondaries,
    /// The volume.
    pub name: &'a VolumeName,
}

impl Failover<'_> {
    /// Makes the appliance what is written to, from the end of the journal on; with `force` also in the middle of a failback.
    pub fn promote(&self, force: bool) -> Result<Message> {
        let entry = self.entry()?;
        let switch = self.journals.switch(self.name).map_err(|error| self.still_followed(error))?;
        let state = match (switch.state(), switch.state().role) {
            (state, Role::Promoted { .. }) => state,
            (_, Role::Following) => self.promote_newest(&switch)?,
            (State { generation, .. }, Role::Returning { to, .. }) if force => {
                switch.to(entry.volume.uuid, Role::Promoted { point: to }, generation + 1, clock::now_ns())?
            }
            (_, Role::Returning { to, .. }) => {
                let name = self.name;
                return Err(Error::Refused(format!(
                    "volume {name} is being failed back: its primary becomes point {to}; run `understudy failback {name} VOLUME-PATH` to its \
                     end, or --force goes on here from that point, and the primary must be failed back again"
                )));
            }
        };
        let Role::Promoted { point } = state.role else { unreachable!("it was just promoted") };
        self.open(&entry.volume, point)?;
        let State { generation, since_ns: at_ns, .. } = state;
        Ok(Wire::Promoted { volume: entry.volume.uuid, point, generation, at_ns }.into())
    }

    /// All that there is becomes a point, which is promoted.
    fn promote_newest(&self, switch: &Switch) -> Result<State> {
        let folder = Folder { pool: self.pool, journals: self.journals, name: self.name };
        // First up to the newest mark, then to the end: so nothing that the primary was told to be here is missing.
        while let Some((volume, _)) = folder.fold(clock::random_uuid(), clock::now_ns())? {
            self.secondaries.follow(&volume);
        }
        let volume = self.entry()?.volume.clone();
        // A stream that was admitted before would come after the point.
        let _alone = self.pool.begin_stream(self.name, volume.uuid)?;
        let point = self.newest()?.number;
        switch.to(volume.uuid, Role::Promoted { point }, switch.state().generation + 1, clock::now_ns())
    }

    /// Makes a point of what was written since the promotion, which the primary is to become. Where the primary is what is written to already, tells that.
    pub fn fail_back(&self) -> Result<Message> {
        let entry = self.entry()?;
        let switch = self.journals.switch(self.name)?;
        match switch.state().role {
            Role::Following => self.following(),
            Role::Returning { .. } => self.returning(&entry.volume, &switch.state()),
            Role::Promoted { point } => {
                self.open(&entry.volume, point)?;
                let state = self.give_back(&switch, &entry.volume, point)?;
                self.secondaries.follow(&entry.volume);
                self.returning(&entry.volume, &state)
            }
        }
    }

    fn give_back(&self, switch: &Switch, volume: &Volume, from: u64) -> Result<State> {
        let position = Position { journal: clock::random_uuid(), sequence: 0 };
        let given = Given { stream: clock::random_uuid(), position, now_ns: clock::now_ns() };
        self.overlays.give_back(&volume.uuid, from, given, |_, point| {
            let role = Role::Returning { from, to: point.number };
            switch.to(volume.uuid, role, switch.state().generation + 1, given.now_ns)
        })
    }

    /// The primary is this point, and what is written to from now on.
    pub fn failed_back(&self, point: u64) -> Result<Message> {
        let entry = self.entry()?;
        let switch = self.journals.switch(self.name)?;
        let state = switch.state();
        match state.role {
            Role::Returning { from, to } if to == point => {
                switch.to(entry.volume.uuid, Role::Following, state.generation, clock::now_ns())?;
                self.discard(&entry.volume, from);
                self.following()
            }
            Role::Following if self.newest()?.number == point => self.following(),
            _ => Err(Error::Refused(format!(
                "volume {} is not being failed back to point {point}; run `understudy failback` again",
                self.name
            ))),
        }
    }

    /// Gives up what was written since the promotion.
    pub fn demote(&self) -> Result<Message> {
        let entry = self.entry()?;
        let switch = self.journals.switch(self.name)?;
        let state = switch.state();
        match state.role {
            Role::Following => self.following(),
            Role::Promoted { point } => {
                self.check_unused(&entry.volume, point)?;
                switch.to(entry.volume.uuid, Role::Following, state.generation - 1, clock::now_ns())?;
                self.discard(&entry.volume, point);
                self.following()
            }
            Role::Returning { to, .. } => Err(Error::Refused(format!(
                "volume {name} is being failed back to point {to}, and its primary may be that in part already: run `understudy failback \
                 {name} VOLUME-PATH` to its end",
                name = self.name
            ))),
        }
    }

    fn check_unused(&self, volume: &Volume, point: u64) -> Result<()> {
        let is_it = |info: &OverlayInfo| (info.status.volume, info.status.point) == (volume.uuid, point);
        match self.overlays.list().into_iter().find(is_it).map_or(0, |info| info.status.connections) {
            0 => Ok(()),
            count => Err(Error::Refused(format!(
                "{name}@{point}+w is used by {count} connections: unmount and detach it first (`understudy detach {name}@{point}+w`)",
                name = self.name
            ))),
        }
    }

    fn entry(&self) -> Result<Arc<VolumeEntry>> {
        self.pool.known(self.name)
    }

    fn newest(&self) -> Result<Point> {
        let none = || Error::refused(format!("volume {} has no point yet", self.name));
        self.entry()?.newest().cloned().ok_or_else(none)
    }

    /// Has the overlay over a point made, when there is none.
    fn open(&self, volume: &Volume, point: u64) -> Result<()> {
        let gone = || Error::refused(format!("point {}@{point} was removed", self.name));
        let (volume, point) = self.pool.point(&volume.uuid, point).ok_or_else(gone)?;
        self.overlays.open(&volume, &point, clock::now_ns()).map(drop)
    }

    /// Discards an overlay that is needed no more; it is in nobody's way if that fails.
    fn discard(&self, volume: &Volume, point: u64) {
        if let Err(error) = self.overlays.discard(&volume.uuid, point, true) {
            tracing::warn!(volume = %volume.name, point, %error, "its scratch overlay could not be discarded");
        }
    }

    /// What a tap is told that asks to follow.
    fn following(&self) -> Result<Message> {
        let (entry, newest) = (self.entry()?, self.newest()?);
        let generation = self.journals.generation(self.name);
        let Point { number, position, .. } = newest;
        Ok(Tap::Following { volume: entry.volume.uuid, generation, durable: 0, newest: number, position }.into())
    }

    fn returning(&self, volume: &Volume, state: &State) -> Result<Message> {
        let Role::Returning { from, to } = state.role else { unreachable!("asked in this role alone") };
        let position = self.pool.point(&volume.uuid, from).and_then(|(_, point)| point.position);
        let durable = position.map_or(0, |position| self.journals.durable(self.name, &position.journal));
        Ok(Wire::FailingBack { volume: volume.uuid, from, to, generation: state.generation, durable }.into())
    }

    fn still_followed(&self, error: Error) -> Error {
        let Some((_, by)) = self.journals.followed_by(self.name) else { return error };
        let name = self.name;
        Error::Refused(format!(
            "volume {name} is followed by the tap of {by}, which was there less than half a minute ago: stop its applications and that tap \
             first; --force promotes nevertheless, and that primary is not followed any more"
        ))
    }
}

/// What people are told of a volume that is not written to at its primary; `None` when it is.
pub fn describe(state: &State) -> Option<String> {
    let since = text::time(state.since_ns);
    match state.role {
        Role::Following => None,
        Role::Promoted { point } => Some(format!("promoted on {since}: written to here, from point {point} on")),
        Role::Returning { to, .. } => Some(format!("being failed back since {since}: its primary becomes point {to}")),
    }
}
