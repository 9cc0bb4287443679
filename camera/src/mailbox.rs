//! One frame between the thread that looks and the one that takes: the newest wins, or the first waits.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::frame::Frame;

#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Slot {
    frame: Option<Frame>,
    /// Nothing will be put in any more.
    is_finished: bool,
    /// Nothing will be taken out any more.
    is_abandoned: bool,
}

/// What was in the mailbox.
#[derive(Debug)]
pub(crate) enum Taken {
    Frame(Box<Frame>),
    /// Nothing came in time.
    Nothing,
    /// Nothing will come.
    Finished,
}

impl Mailbox {
    /// Puts a frame in, whatever is there. True if that was dropped for it.
    pub fn put_newest(&self, frame: Frame) -> bool {
        let mut slot = self.lock();
        let is_replaced = slot.frame.replace(frame).is_some();
        self.changed.notify_all();
        is_replaced
    }

    /// Puts a frame in once the one before it is taken. False if nobody takes any more.
    pub fn put_patiently(&self, frame: Frame) -> bool {
        let slot = self.lock();
        let is_full = |slot: &mut Slot| slot.frame.is_some() && !slot.is_abandoned;
        let mut slot = self.changed.wait_while(slot, is_full).unwrap_or_else(PoisonError::into_inner);
        if slot.is_abandoned {
            return false;
        }
        slot.frame = Some(frame);
        self.changed.notify_all();
        true
    }

    /// Takes the frame that is there, or waits for one.
    pub fn take(&self, deadline: Instant) -> Taken {
        let slot = self.lock();
        let is_empty = |slot: &mut Slot| slot.frame.is_none() && !slot.is_finished;
        let patience = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(slot, patience, is_empty);
        let (mut slot, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match slot.frame.take() {
            Some(frame) => {
                self.changed.notify_all();
                Taken::Frame(Box::new(frame))
            }
            None if slot.is_finished => Taken::Finished,
            None => Taken::Nothing,
        }
    }

    /// Says that nothing will be put in any more.
    pub fn finish(&self) {
        self.lock().is_finished = true;
        self.changed.notify_all();
    }

    /// Says that nothing will be taken out any more.
    pub fn abandon(&self) {
        self.lock().is_abandoned = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Image;
    use std::time::Duration;

    fn numbered(sequence: u64) -> Frame {
        Frame { sequence, ..Frame::new(Image::Jpeg(Vec::new()), "test") }
    }

    fn taken(mailbox: &Mailbox) -> Option<u64> {
        match mailbox.take(Instant::now()) {
            Taken::Frame(frame) => Some(frame.sequence),
            Taken::Nothing | Taken::Finished => None,
        }
    }

    #[test]
    fn newest_frame_wins_and_is_taken_once() {
        let mailbox = Mailbox::default();
        assert!(!mailbox.put_newest(numbered(1)));
        assert!(mailbox.put_newest(numbered(2)));
        assert_eq!(taken(&mailbox), Some(2));
        assert!(matches!(mailbox.take(Instant::now()), Taken::Nothing));
        assert!(!mailbox.put_newest(numbered(3)));
        mailbox.finish();
        assert_eq!(taken(&mailbox), Some(3));
        assert!(matches!(mailbox.take(Instant::now() + Duration::from_secs(60)), Taken::Finished));
    }

    #[test]
    fn patient_frames_are_all_taken_in_order() {
        let mailbox = Mailbox::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!((1..=100).all(|sequence| mailbox.put_patiently(numbered(sequence))));
                mailbox.finish();
            });
            let deadline = Instant::now() + Duration::from_secs(60);
            let next = || match mailbox.take(deadline) {
                Taken::Frame(frame) => Some(frame.sequence),
                _ => None,
            };
            assert!(std::iter::from_fn(next).eq(1..=100));
        });
    }

    #[test]
    fn frame_that_waits_is_given_up_when_nobody_takes() {
        let mailbox = Mailbox::default();
        assert!(mailbox.put_patiently(numbered(1)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| mailbox.put_patiently(numbered(2)));
            mailbox.abandon();
            assert!(!waiting.join().unwrap());
        });
    }
}
