//! What a board believes about releases: pure checks, in the order in which the files are fetched.

use serde::{Deserialize, Serialize};

use super::{Board, Delegation, Newest, Release, Root, Version};
use crate::digest::Digest;
use crate::key::PublicKey;
use crate::signed::{self, SignedError};

/// What a board remembers, so that nobody can take it back to an earlier time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Whom it believes.
    root: Root,
    /// The latest delegation that it has seen.
    serial: u64,
    /// The release key that it names.
    key: Option<PublicKey>,
    /// The latest word about the newest release that it has seen.
    number: u64,
    /// The newest release that it has taken.
    sequence: u64,
    /// The latest time that somebody whom it believes has named, seconds since 1970.
    latest_s: i64,
}

/// A release that is not taken.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReleaseError {
    /// A signature, or what was signed.
    #[error("{what}: {source}")]
    Signed {
        /// Which file.
        what: &'static str,
        /// Why.
        source: SignedError,
    },
    /// A root that does not follow.
    #[error("the root of version {found} does not follow that of version {known}, or cannot be signed")]
    Root {
        /// What was offered.
        found: u32,
        /// What is believed.
        known: u32,
    },
    /// Something that was current once.
    #[error("{what} is number {found}, and this board has seen number {known}: somebody replays an old one")]
    Replayed {
        /// Which file.
        what: &'static str,
        /// What was offered.
        found: u64,
        /// What was seen.
        known: u64,
    },
    /// Its time is over.
    #[error("{what} has expired: the host has to sign it anew, or the clock is wrong")]
    Expired {
        /// Which file.
        what: &'static str,
    },
    /// The release is not the one that was announced.
    #[error("the release is not the one that the host calls the newest")]
    Swapped,
    /// The release is not for this board, or its signer has no say about it.
    #[error("the release is for other boards")]
    OtherBoard,
    /// The program is too old.
    #[error("the release needs version {needed} of this program, and this is {ours}: upgrade it")]
    TooNew {
        /// What it needs.
        needed: Version,
        /// What is here.
        ours: Version,
    },
    /// It is signed, and none can be like this.
    #[error("it is signed, and cannot be taken: {0}")]
    Unsound(&'static str),
}

const ROOT: &str = "the root";
const DELEGATION: &str = "the delegation";
const NEWEST: &str = "the word about the newest release";
const RELEASE: &str = "the release";

impl Trust {
    /// Believes in a root, which somebody has brought in person.
    ///
    /// # Errors
    /// A root that cannot be signed.
    pub fn new(root: Root) -> Result<Trust, ReleaseError> {
        if !root.is_sound() {
            return Err(ReleaseError::Root { found: root.version, known: 0 });
        }
        Ok(Trust { root, serial: 0, key: None, number: 0, sequence: 0, latest_s: 0 })
    }

    /// The same memory under a later root, which somebody has brought in person.
    ///
    /// # Errors
    /// A root that cannot be signed.
    pub fn with_root(self, root: Root) -> Result<Trust, ReleaseError> {
        Ok(Trust { root: Trust::new(root)?.root, ..self })
    }

    /// The root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The newest release that was taken; 0 if none was.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The time as far as it is known: a clock behind what was signed already is wrong.
    pub fn now_s(&self, clock_s: i64) -> i64 {
        clock_s.max(self.latest_s)
    }

    /// Believes in the next root, which this one has signed, and which has signed itself.
    ///
    /// # Errors
    /// A root that does not follow, too few signatures.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(), ReleaseError> {
        let (known, threshold) = (self.root.version, usize::from(self.root.threshold));
        let fault = |source| ReleaseError::Signed { what: ROOT, source };
        let next: Root = signed::open_by_many(bytes, &self.root.keys, threshold).map_err(fault)?;
        if !next.is_sound() || known.checked_add(1) != Some(next.version) {
            return Err(ReleaseError::Root { found: next.version, known });
        }
        let itself = signed::open_by_many::<Root>(bytes, &next.keys, usize::from(next.threshold));
        self.root = itself.map_err(fault)?;
        Ok(())
    }

    /// Whose releases are to be taken now.
    ///
    /// # Errors
    /// A delegation by somebody else, an earlier one, two of one serial, one whose time is over.
    pub fn delegated(&mut self, bytes: &[u8], clock_s: i64) -> Result<Delegation, ReleaseError> {
        let fault = |source| ReleaseError::Signed { what: DELEGATION, source };
        let threshold = usize::from(self.root.threshold);
        let delegation: Delegation = signed::open_by_many(bytes, &self.root.keys, threshold).map_err(fault)?;
        not_before(DELEGATION, delegation.serial, self.serial)?;
        if delegation.serial == self.serial && self.key.is_some_and(|key| key != delegation.key) {
            return Err(ReleaseError::Unsound("two delegations have one serial"));
        }
        if self.key != Some(delegation.key) {
            // Whoever had a lost key may have used up its numbers and named any time; another key has its own.
            (self.number, self.sequence, self.latest_s) = (0, 0, 0);
        }
        (self.serial, self.key) = (delegation.serial, Some(delegation.key));
        not_expired(DELEGATION, delegation.expires_s, self.now_s(clock_s))?;
        Ok(delegation)
    }

    /// What the host says is the newest release.
    ///
    /// # Errors
    /// A word by somebody else, an earlier one, one whose time is over, an earlier release than the board has.
    pub fn newest(&mut self, bytes: &[u8], by: &Delegation, clock_s: i64) -> Result<Newest, ReleaseError> {
        let fault = |source| ReleaseError::Signed { what: NEWEST, source };
        let newest: Newest = signed::open(bytes, &[by.key]).map_err(fault)?;
        not_before(NEWEST, newest.number, self.number)?;
        not_before(RELEASE, newest.sequence, self.sequence)?;
        not_expired(NEWEST, newest.expires_s, self.now_s(clock_s))?;
        self.number = newest.number;
        // Not beyond the delegation: a lost key must not be able to put the clock beyond the next one.
        self.latest_s = self.latest_s.max(newest.at_s.min(by.expires_s));
        Ok(newest)
    }

    /// The release that was announced, for this board.
    ///
    /// # Errors
    /// Another release, another signer, another board.
    pub fn release(
        &self,
        bytes: &[u8],
        by: &Delegation,
        newest: &Newest,
        board: &Board,
    ) -> Result<Release, ReleaseError> {
        if Digest::of(bytes) != newest.release {
            return Err(ReleaseError::Swapped);
        }
        let fault = |source| ReleaseError::Signed { what: RELEASE, source };
        let release: Release = signed::open(bytes, &[by.key]).map_err(fault)?;
        if release.sequence != newest.sequence {
            return Err(ReleaseError::Swapped);
        }
        if !board.is_of(&release.classes) || !board.is_of(&by.classes) {
            return Err(ReleaseError::OtherBoard);
        }
        if board.version < release.minimum_version {
            return Err(ReleaseError::TooNew { needed: release.minimum_version, ours: board.version });
        }
        release.fault().map_or(Ok(release), |fault| Err(ReleaseError::Unsound(fault)))
    }

    /// The board has tried a release: no earlier one is taken any more.
    pub fn take(&mut self, release: &Release) {
        self.sequence = self.sequence.max(release.sequence);
    }
}

fn not_before(what: &'static str, found: u64, known: u64) -> Result<(), ReleaseError> {
    if found < known { Err(ReleaseError::Replayed { what, found, known }) } else { Ok(()) }
}

fn not_expired(what: &'static str, expires_s: i64, now_s: i64) -> Result<(), ReleaseError> {
    if now_s >= expires_s { Err(ReleaseError::Expired { what }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::key::SecretKey;
    use crate::release::{Health, ReleasedFile};

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_text(&format!("{seed:02x}").repeat(32)).unwrap()
    }

    fn root(version: u32, seeds: &[u8], threshold: u8) -> Root {
        Root { version, keys: seeds.iter().map(|seed| key(*seed).public()).collect(), threshold }
    }

    fn delegation(serial: u64, online: u8, root: u8) -> Vec<u8> {
        let classes = vec!["aarch64".parse().unwrap()];
        let delegation = Delegation { serial, key: key(online).public(), classes, expires_s: 1000 };
        signed::sign(&delegation, &[&key(root)])
    }

    fn release(sequence: u64) -> Release {
        let manifest = ReleasedFile { sha256: Digest::of(b"manifest"), bytes: 8 };
        Release {
            sequence,
            bundle: manifest.sha256,
            files: BTreeMap::from([("manifest.json".to_owned(), manifest)]),
            minimum_version: "0.1.0".parse().unwrap(),
            classes: vec!["any".parse().unwrap()],
            health: Health { memory_mib: 256, seconds: 60, tolerance: 0.05 },
            made_s: 1,
        }
    }

    fn newest(number: u64, sequence: u64, release: &[u8]) -> Newest {
        Newest { number, sequence, release: Digest::of(release), share: 1000, at_s: 10, expires_s: 500 }
    }

    fn board() -> Board {
        Board { classes: vec!["aarch64".parse().unwrap()], version: "0.1.0".parse().unwrap() }
    }

    /// Everything that a board does with a release, with the root's key 1 and the release key 9.
    fn offer(trust: &mut Trust, newest: &Newest, release: &[u8], by: u8) -> Result<Release, ReleaseError> {
        let delegation = trust.delegated(&delegation(1, 9, 1), 100)?;
        let newest = trust.newest(&signed::sign(newest, &[&key(by)]), &delegation, 100)?;
        let release = trust.release(release, &delegation, &newest, &board())?;
        trust.take(&release);
        Ok(release)
    }

    fn trusting() -> Trust {
        Trust::new(root(1, &[1], 1)).unwrap()
    }

    #[test]
    fn a_release_is_taken_and_none_before_it() {
        let (mut trust, signer) = (trusting(), key(9));
        let five = signed::sign(&release(5), &[&signer]);
        assert_eq!(offer(&mut trust, &newest(1, 5, &five), &five, 9), Ok(release(5)));
        assert_eq!(offer(&mut trust, &newest(1, 5, &five), &five, 9), Ok(release(5)));
        let four = signed::sign(&release(4), &[&signer]);
        let replayed = |what, found, known| Err(ReleaseError::Replayed { what, found, known });
        assert_eq!(offer(&mut trust, &newest(2, 4, &four), &four, 9), replayed(RELEASE, 4, 5));
        let six = signed::sign(&release(6), &[&signer]);
        offer(&mut trust, &newest(7, 6, &six), &six, 9).unwrap();
        assert_eq!(offer(&mut trust, &newest(6, 6, &six), &six, 9), replayed(NEWEST, 6, 7));
        let json = serde_json::to_vec(&trust).unwrap();
        assert_eq!(serde_json::from_slice::<Trust>(&json).unwrap(), trust);
    }

    #[test]
    fn what_is_swapped_foreign_or_for_others_is_refused() {
        let signer = key(9);
        let bytes = signed::sign(&release(5), &[&signer]);
        let refused = |newest: &Newest, bytes: &[u8], by| offer(&mut trusting(), newest, bytes, by).unwrap_err();
        let other = signed::sign(&Release { made_s: 2, ..release(5) }, &[&signer]);
        assert_eq!(refused(&newest(1, 5, &bytes), &other, 9), ReleaseError::Swapped);
        assert_eq!(refused(&newest(1, 6, &bytes), &bytes, 9), ReleaseError::Swapped);
        assert!(matches!(refused(&newest(1, 5, &bytes), &bytes, 8), ReleaseError::Signed { what: NEWEST, .. }));
        let foreign = signed::sign(&release(5), &[&key(8)]);
        assert!(matches!(refused(&newest(1, 5, &foreign), &foreign, 9), ReleaseError::Signed { what: RELEASE, .. }));
        let changed = |change: &dyn Fn(&mut Release)| {
            let mut release = release(5);
            change(&mut release);
            let bytes = signed::sign(&release, &[&signer]);
            refused(&newest(1, 5, &bytes), &bytes, 9)
        };
        let classes = |release: &mut Release| release.classes = vec!["raspberry-pi-5".parse().unwrap()];
        assert_eq!(changed(&classes), ReleaseError::OtherBoard);
        let too_new = changed(&|release| release.minimum_version = "0.2.0".parse().unwrap());
        assert!(matches!(too_new, ReleaseError::TooNew { .. }));
        for name in ["../passwd", "/etc/passwd", ".hidden", "a/b", ""] {
            let file = ReleasedFile { sha256: Digest::of(b"x"), bytes: 1 };
            let named = changed(&|release| release.files.extend([(name.to_owned(), file)]));
            assert!(matches!(named, ReleaseError::Unsound(_)), "{name}");
        }
        let far = changed(&|release| release.bundle = Digest::of(b"other"));
        assert!(matches!(far, ReleaseError::Unsound(_)));
        let huge = ReleasedFile { sha256: Digest::of(b"x"), bytes: u64::MAX };
        assert!(matches!(changed(&|release| release.files.extend([("a".to_owned(), huge)])), ReleaseError::Unsound(_)));
    }

    #[test]
    fn words_expire_and_no_clock_that_is_set_back_revives_them() {
        let mut trust = trusting();
        let by = trust.delegated(&delegation(1, 9, 1), 100).unwrap();
        let word = |number, at_s, expires_s| {
            let newest = Newest { at_s, expires_s, ..newest(number, 1, b"") };
            signed::sign(&newest, &[&key(9)])
        };
        let expired = Err(ReleaseError::Expired { what: NEWEST });
        assert_eq!(trust.newest(&word(1, 10, 500), &by, 500), expired);
        assert!(trust.newest(&word(2, 600, 700), &by, 0).is_ok());
        assert_eq!(trust.newest(&word(2, 10, 500), &by, 0), expired);
        // A lost key names the year 2100: the next delegation is no later for it.
        assert!(trust.newest(&word(3, i64::MAX, i64::MAX), &by, 0).is_ok());
        assert_eq!(trust.delegated(&delegation(1, 9, 1), 0), Err(ReleaseError::Expired { what: DELEGATION }));
        assert!(trust.delegated(&delegation(2, 10, 1), 0).is_ok());
    }

    #[test]
    fn a_lost_release_key_is_replaced_and_its_numbers_with_it() {
        let mut trust = trusting();
        let last = signed::sign(&release(u64::MAX), &[&key(9)]);
        offer(&mut trust, &newest(u64::MAX, u64::MAX, &last), &last, 9).unwrap();
        let by = trust.delegated(&delegation(2, 10, 1), 100).unwrap();
        let one = signed::sign(&release(1), &[&key(10)]);
        let word = trust.newest(&signed::sign(&newest(1, 1, &one), &[&key(10)]), &by, 100).unwrap();
        assert_eq!(trust.release(&one, &by, &word, &board()), Ok(release(1)));
        let old = trust.delegated(&delegation(1, 9, 1), 100);
        assert_eq!(old, Err(ReleaseError::Replayed { what: DELEGATION, found: 1, known: 2 }));
        let twin = trust.delegated(&delegation(2, 9, 1), 100);
        assert!(matches!(twin, Err(ReleaseError::Unsound(_))));
    }

    #[test]
    fn roots_follow_one_by_one_and_enough_of_each_must_sign() {
        let mut trust = Trust::new(root(1, &[1, 2, 3], 2)).unwrap();
        let next = root(2, &[2, 4], 2);
        let sign = |root: &Root, seeds: &[u8]| {
            let keys: Vec<SecretKey> = seeds.iter().map(|seed| key(*seed)).collect();
            signed::sign(root, &keys.iter().collect::<Vec<_>>())
        };
        for seeds in [&[1, 2][..], &[2, 4], &[1, 4], &[1, 1, 4, 4], &[5, 6]] {
            let few = trust.follow(&sign(&next, seeds));
            assert!(matches!(few, Err(ReleaseError::Signed { what: ROOT, .. })), "{seeds:?}");
        }
        let skipped = trust.follow(&sign(&root(3, &[2, 4], 2), &[1, 2, 4]));
        assert_eq!(skipped, Err(ReleaseError::Root { found: 3, known: 1 }));
        for unsound in [root(2, &[], 0), root(2, &[4], 2), root(2, &[2, 2], 1), root(2, &[4], 0)] {
            assert!(trust.follow(&sign(&unsound, &[1, 2, 4])).is_err());
        }
        assert_eq!(trust.root().version, 1);
        trust.follow(&sign(&next, &[1, 2, 4])).unwrap();
        assert_eq!(trust.root(), &next);
        // A later root that is brought in person brings no old delegation back.
        trust
            .delegated(
                &signed::sign(
                    &Delegation { serial: 7, key: key(9).public(), classes: vec![], expires_s: 9 },
                    &[&key(2), &key(4)],
                ),
                0,
            )
            .unwrap();
        let brought = trust.clone().with_root(root(3, &[2, 4], 2)).unwrap();
        let old = Delegation { serial: 6, key: key(8).public(), classes: vec![], expires_s: 9 };
        let old = brought.clone().delegated(&signed::sign(&old, &[&key(2), &key(4)]), 0);
        assert!(brought.root().version == 3 && matches!(old, Err(ReleaseError::Replayed { .. })));
        let again = trust.follow(&sign(&next, &[1, 2, 4]));
        assert_eq!(again, Err(ReleaseError::Root { found: 2, known: 2 }));
        assert!(Trust::new(root(0, &[1], 1)).is_err());
    }

    #[test]
    fn a_larger_share_has_the_boards_of_a_smaller_one() {
        let share = |share| {
            let newest = Newest { share, ..newest(1, 1, b"release") };
            let is_for = move |number: &u32| newest.is_for(&format!("board-{number}").parse().unwrap());
            (0..2000).filter(is_for).collect::<Vec<u32>>()
        };
        let (none, some, all) = (share(0), share(100), share(1000));
        assert!(none.is_empty() && all.len() == 2000);
        assert!((140..=260).contains(&some.len()), "{}", some.len());
        assert!(share(300).iter().filter(|board| some.contains(board)).count() == some.len());
    }
}
