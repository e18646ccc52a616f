//! Which side of a volume is written to: the primary, which is followed, or the appliance.
//!
//! Invariants: a change is durable before anybody is told; while a role changes ([`Switch`]), and in any role but that of following, nobody
//! follows the volume and no stream comes into it; a promotion takes the generation that no primary has, and takes it along when it is given up.

use super::Journals;
use super::shelf::Shelf;
use crate::error::{Error, Result};
use crate::locks::lock;
use std::sync::{Arc, Mutex};
use understudy_format::follow::{Role, State};
use understudy_format::point::VolumeName;
use understudy_format::text;
use uuid::Uuid;

/// The right to change the role of a volume, until this is dropped.
#[derive(Debug)]
pub struct Switch {
    shelf: Arc<Mutex<Shelf>>,
    name: VolumeName,
}

impl Journals {
    /// What is known of the primary of a volume.
    pub fn state(&self, name: &VolumeName) -> State {
        self.shelf(name).map(|shelf| lock(&shelf).state).unwrap_or_default()
    }

    /// The right to change the role of a volume, which nobody follows.
    pub fn switch(&self, name: &VolumeName) -> Result<Switch> {
        let mut shelves = lock(&self.shelves);
        let shelf = self.shelf_in(&mut shelves, name);
        let mut own = lock(&shelf);
        drop(shelves);
        own.check_alone(name)?;
        own.check_whole()?;
        if std::mem::replace(&mut own.is_switching, true) {
            return Err(Error::Busy(format!(
                "the role of volume {name} is being changed already; try again after that"
            )));
        }
        drop(own);
        Ok(Switch { shelf, name: name.clone() })
    }

    /// Fails for an overlay that must stay, and as it is: the one that a promoted volume is written to.
    pub fn check_discardable(&self, name: &VolumeName, point: u64) -> Result<()> {
        match self.state(name).role {
            Role::Promoted { point: promoted } | Role::Returning { from: promoted, .. } if promoted == point => {
                Err(Error::Refused(format!(
                    "volume {name} was promoted, and what is written to it is in the scratch overlay over point {point}; \
                     `understudy failback {name} VOLUME-PATH` takes it along, `understudy demote {name} --discard` gives it up"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Fails for an overlay that is on its way to the primary: what is written to it now would not come along.
    pub fn check_writable(&self, name: &VolumeName, point: u64) -> Result<()> {
        match self.state(name).role {
            Role::Returning { from, to } if from == point => Err(Error::Refused(format!(
                "what was written to it is {name}@{to} now, which its primary becomes again; attach that read-only, or end the \
                 failback (`understudy promote {name} --force`) and go on from there"
            ))),
            _ => Ok(()),
        }
    }
}

impl Switch {
    /// What is known now.
    pub fn state(&self) -> State {
        lock(&self.shelf).state
    }

    /// Changes the role: durable when this returns.
    pub fn to(&self, volume: Uuid, role: Role, generation: u64, now_ns: i64) -> Result<State> {
        let mut shelf = lock(&self.shelf);
        let before = shelf.state;
        shelf.state = State { volume, role, generation, since_ns: now_ns, ..before };
        if let Err(error) = shelf.save() {
            shelf.state = before;
            return Err(error);
        }
        let (volume, role, generation) = (&self.name, shelf.state.role, shelf.state.generation);
        tracing::info!(%volume, ?role, generation, "who is written to has changed");
        Ok(shelf.state)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        lock(&self.shelf).is_switching = false;
    }
}

impl Shelf {
    /// Fails unless the primary is what is written to.
    pub(super) fn check_role(&self, name: &VolumeName) -> Result<()> {
        let generation = self.state.generation;
        let since = text::time(self.state.since_ns);
        match self.state.role {
            _ if self.is_switching => Err(Error::Busy(format!("the role of volume {name} is being changed"))),
            Role::Following => Ok(()),
            Role::Promoted { point } => Err(Error::Refused(format!(
                "volume {name} was promoted here from point {point} on, on {since} (generation {generation}), and is written to at the \
                 appliance: what is written to its old primary as well is a second version of the volume, which the appliance does not \
                 take. Stop the applications there; then `understudy failback {name} VOLUME-PATH` brings what was written here, or \
                 `understudy demote {name} --discard` gives that up"
            ))),
            Role::Returning { from, to } => Err(Error::Refused(format!(
                "volume {name} was promoted here from point {from} on, and its primary becomes point {to} since {since} (generation \
                 {generation}): run `understudy failback {name} VOLUME-PATH` there to its end"
            ))),
        }
    }
}
