//! One group while its members gather: who has a seat, whose commit is held, who is awaited and since when.
//!
//! A plain value around whatever is held; the time is passed in. Invariants: a volume has one seat, and a seat one stream at a time; what
//! is held is given out once, when all seats hold something; a member that is away, or never came, is awaited for [`AWAY_MAX`], and
//! no commit is held longer than [`HELD_MAX`].

use std::collections::BTreeMap;
use std::time::Duration;
use understudy_format::point::VolumeName;

/// How long a member may be away: longer than an initiator tries to connect again.
pub const AWAY_MAX: Duration = Duration::from_secs(600);
/// How long a commit is held, while others of its group are on their way.
pub const HELD_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
enum Seat<H> {
    /// Its stream comes in.
    Streams,
    /// Its commit is held, since then.
    Held(H, Duration),
    /// Its connection was lost then.
    Away(Duration),
}

/// See the module documentation.
#[derive(Debug)]
pub struct Gathering<H> {
    members: u16,
    began: Duration,
    seats: BTreeMap<VolumeName, Seat<H>>,
}

impl<H> Gathering<H> {
    /// A group of so many members, to which nobody has come.
    pub fn new(members: u16, now: Duration) -> Self {
        Self { members, began: now, seats: BTreeMap::new() }
    }

    /// A stream comes, for the first time or again; why it is not let in.
    pub fn come(&mut self, name: &VolumeName, members: u16) -> Result<(), String> {
        if members != self.members {
            return Err(format!("it has {} members, and {name} says that it has {members}", self.members));
        }
        match self.seats.get(name) {
            Some(Seat::Streams | Seat::Held(..)) => {
                return Err(format!("{name} is in it already, brought by another stream"));
            }
            None if self.seats.len() == usize::from(members) => {
                let names: Vec<&str> = self.seats.keys().map(VolumeName::as_str).collect();
                return Err(format!("it has its {members} members ({}), and {name} is none of them", names.join(", ")));
            }
            None | Some(Seat::Away(_)) => {}
        }
        self.seats.insert(name.clone(), Seat::Streams);
        Ok(())
    }

    /// The commit of a member is held; all of them, when it was the last.
    pub fn hold(&mut self, name: &VolumeName, ready: H, now: Duration) -> Option<Vec<H>> {
        self.seats.insert(name.clone(), Seat::Held(ready, now));
        if self.ready() < self.members {
            return None;
        }
        let held = std::mem::take(&mut self.seats).into_values().filter_map(|seat| match seat {
            Seat::Held(ready, _) => Some(ready),
            Seat::Streams | Seat::Away(_) => None,
        });
        Some(held.collect())
    }

    /// The connection of a member is lost, and what was held of it goes.
    pub fn leave(&mut self, name: &VolumeName, now: Duration) {
        if let Some(seat) = self.seats.get_mut(name) {
            *seat = Seat::Away(now);
        }
    }

    /// How many commits are held.
    pub fn ready(&self) -> u16 {
        self.seats.values().filter(|seat| matches!(seat, Seat::Held(..))).count() as u16
    }

    /// Why the group is not waited for any longer.
    pub fn overdue(&self, now: Duration) -> Option<String> {
        let minutes = AWAY_MAX.as_secs() / 60;
        let is_late = |since: Duration| now.saturating_sub(since) > AWAY_MAX;
        let away = |(name, seat): (&VolumeName, &Seat<H>)| match seat {
            Seat::Away(since) if is_late(*since) => {
                Some(format!("{name} was cut off and not back within {minutes} min"))
            }
            Seat::Held(_, since) if now.saturating_sub(*since) > HELD_MAX => {
                Some(format!("{name} was ready for {} h; {}", HELD_MAX.as_secs() / 3600, self.lacking()))
            }
            _ => None,
        };
        let lacking = usize::from(self.members) - self.seats.len();
        let never = || format!("{lacking} of {} members did not come within {minutes} min", self.members);
        self.seats.iter().find_map(away).or_else(|| (lacking > 0 && is_late(self.began)).then(never))
    }

    /// Which members are not ready, for people.
    pub fn lacking(&self) -> String {
        let state = |(name, seat): (&VolumeName, &Seat<H>)| match seat {
            Seat::Streams => Some(format!("{name} is on its way")),
            Seat::Away(_) => Some(format!("{name} was cut off")),
            Seat::Held(..) => None,
        };
        let mut lacking: Vec<String> = self.seats.iter().filter_map(state).collect();
        let absent = usize::from(self.members) - self.seats.len();
        lacking.extend((absent > 0).then(|| format!("{absent} did not come yet")));
        lacking.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn name(text: &str) -> VolumeName {
        text.parse().unwrap()
    }

    /// A group of three to which these came.
    fn of_three(names: &[&str]) -> Gathering<u8> {
        let mut group = Gathering::new(3, START);
        names.iter().for_each(|text| group.come(&name(text), 3).unwrap());
        group
    }

    #[test]
    fn what_is_held_is_given_out_once_all_are_ready() {
        let mut group = of_three(&["a", "b"]);
        assert_eq!(group.hold(&name("a"), 1, START), None);
        assert_eq!(group.hold(&name("b"), 2, START), None);
        group.come(&name("c"), 3).unwrap();
        assert_eq!((group.ready(), group.lacking().as_str()), (2, "c is on its way"));
        assert_eq!(group.hold(&name("c"), 3, START), Some(vec![1, 2, 3]));
        assert_eq!(group.ready(), 0);
    }

    #[test]
    fn another_count_a_volume_twice_and_a_member_too_many_are_refused() {
        let mut group = of_three(&["a"]);
        let refused = |group: &mut Gathering<u8>, text, members| group.come(&name(text), members).unwrap_err();
        assert_eq!(refused(&mut group, "b", 2), "it has 3 members, and b says that it has 2");
        assert_eq!(refused(&mut group, "a", 3), "a is in it already, brought by another stream");
        assert_eq!(group.hold(&name("a"), 1, START), None);
        assert_eq!(refused(&mut group, "a", 3), "a is in it already, brought by another stream");
        group.come(&name("b"), 3).unwrap();
        group.come(&name("c"), 3).unwrap();
        assert_eq!(refused(&mut group, "d", 3), "it has its 3 members (a, b, c), and d is none of them");
    }

    /// Also one whose commit was held: what was held goes, so that the stream can come again.
    #[test]
    fn a_member_that_was_cut_off_has_its_seat_again() {
        let mut group = of_three(&["a", "b", "c"]);
        assert_eq!(group.hold(&name("a"), 1, START), None);
        group.leave(&name("a"), START);
        assert_eq!((group.ready(), group.lacking().as_str()), (0, "a was cut off; b is on its way; c is on its way"));
        group.come(&name("a"), 3).unwrap();
        assert_eq!(group.hold(&name("b"), 2, START), None);
        assert_eq!(group.hold(&name("c"), 3, START), None);
        assert_eq!(group.hold(&name("a"), 4, START), Some(vec![4, 2, 3]));
    }

    #[test]
    fn who_is_away_is_awaited_for_so_long_and_no_longer() {
        let mut group = of_three(&["a", "b", "c"]);
        let later = START + Duration::from_secs(50_000);
        assert_eq!(group.overdue(later), None, "a stream may take as long as it takes");
        group.leave(&name("b"), later);
        assert_eq!(group.overdue(later + AWAY_MAX), None);
        let second = Duration::from_secs(1);
        let overdue = group.overdue(later + AWAY_MAX + second).unwrap();
        assert_eq!(overdue, "b was cut off and not back within 10 min");
        group.come(&name("b"), 3).unwrap();
        assert_eq!(group.overdue(later + AWAY_MAX + second), None);
        group.hold(&name("a"), 1, later);
        assert_eq!(group.overdue(later + HELD_MAX), None);
        let overdue = group.overdue(later + HELD_MAX + second).unwrap();
        assert_eq!(overdue, "a was ready for 24 h; b is on its way; c is on its way");
    }

    #[test]
    fn who_never_came_is_awaited_from_the_beginning_on() {
        let group = of_three(&["a"]);
        assert_eq!(
            (group.overdue(START + AWAY_MAX), group.lacking().as_str()),
            (None, "a is on its way; 2 did not come yet")
        );
        let overdue = group.overdue(START + AWAY_MAX + Duration::from_secs(1)).unwrap();
        assert_eq!(overdue, "2 of 3 members did not come within 10 min");
    }
}
