//! Streams that commit together: several volumes at once, and what becomes of the others when one of them ends.

use super::World;
use super::link::Link;
use crate::model::Checked;
use crate::session::uuid;
use understudy_appliance::ingest::Ready;
use understudy_format::group::Group;
use uuid::Uuid;

impl World {
    /// New streams of several volumes, in a group.
    pub(super) fn connect_group(&mut self) {
        let members = 2 + self.rng.below(self.primaries.len() as u64 - 1);
        let group = Group { uuid: uuid(self.streams + 1), members: members as u16 };
        let first = self.rng.below(self.primaries.len() as u64);
        for at in first..first + members {
            self.connect_to((at % self.primaries.len() as u64) as usize, Some(group));
        }
    }

    /// A member is ready: when all are, their points are committed, all of them or none.
    pub(super) fn ready(&mut self, group: Group) -> Checked {
        if self.of(group.uuid).filter(|link| link.is_holding()).count() < usize::from(group.members) {
            return Ok(());
        }
        let name = self.of(group.uuid).next().expect("just counted").name().clone();
        let is_doomed = self.of(group.uuid).any(|link| link.is_doomed);
        let all: Vec<_> = self.of(group.uuid).map(|link| (link.name().clone(), link.kept())).collect();
        let of_group = |link: &mut Link| link.group().is_some_and(|own| own.uuid == group.uuid);
        let ready: Vec<Ready> =
            self.links.iter_mut().filter_map(|link| of_group(link).then(|| link.take_held())?).collect();
        let committed = Ready::commit(&ready);
        // They hold the pool, which may have to be closed now.
        drop(ready);
        self.over(group.uuid);
        self.note(format!("a group of {} with {name}: {committed:?}", group.members));
        match committed {
            Ok(()) => {
                self.stats.points += u64::from(group.members);
                all.into_iter().for_each(|(name, kept)| self.model.committed(&name, kept));
                Ok(())
            }
            Err(error) => {
                self.stats.broken_streams += u64::from(group.members);
                self.model.doubt_group(all);
                self.stream_failed(&name, is_doomed, &error)
            }
        }
    }

    /// The connections of a group end.
    pub(super) fn over(&mut self, group: Uuid) {
        self.links.retain(|link| link.group().is_none_or(|own| own.uuid != group));
    }

    fn of(&self, group: Uuid) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |link| link.group().is_some_and(|own| own.uuid == group))
    }
}
