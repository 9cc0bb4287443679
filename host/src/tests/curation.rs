use store::LabelAction::{Accept, Reject, Rewrite};
use store::State;

use super::scene::{Scene, caption, jpeg, pair};
use crate::{CurationError, Page, PairFilter, PairName, Word};

fn texts(page: &Page) -> Vec<String> {
    page.pairs.iter().map(|pair| pair.texts()[0].words.as_str().to_owned()).collect()
}

#[test]
fn the_last_word_counts_and_the_hosts_stands_over_the_boards() {
    let scene = Scene::new();
    let mut home = scene.open();
    let pairs = vec![pair(jpeg(1), "a cat", 0), pair(jpeg(2), "a dog", 0)];
    let originals = scene.stored("garden", pairs, &[(0, Reject)]);
    scene.send(&mut home, "garden", &originals);
    scene.take_in(&mut home);
    let [cat, dog] = [0, 1].map(|place| PairName::OnBoard("garden".parse().unwrap(), originals[place].id));
    let verdict = |home: &crate::Home, name| home.pair(name).map(|pair| (pair.state(), pair.word())).unwrap();
    assert_eq!(verdict(&home, &cat), (State::Rejected, Word::Board));
    assert_eq!(verdict(&home, &dog), (State::Kept, Word::Filter));
    home.label(&cat, &Accept, 5).unwrap();
    assert_eq!(verdict(&home, &cat), (State::Kept, Word::Host));
    for (action, state) in
        [(Reject, State::Rejected), (Rewrite(caption("a tabby")), State::Kept), (Reject, State::Rejected)]
    {
        assert_eq!(home.label(&cat, &action, 6).unwrap().state(), state);
    }
    // The board says more later: the host's word stands, and both stay on record.
    let mut again = originals[0].clone();
    again.labels.push(store::Label { action: Accept, by: None, at: store::Stamp::default() });
    scene.send(&mut home, "garden", &[again]);
    assert_eq!(scene.take_in(&mut home).again, 1);
    let found = home.pair(&cat).unwrap();
    assert_eq!((found.state(), found.word(), found.board_labels), (State::Rejected, Word::Host, 2));
    assert_eq!(found.pair.labels.len(), 6);
    assert_eq!(home.pair(&cat).unwrap().texts()[0].words, caption("a tabby"));
}

#[test]
fn pairs_are_listed_page_by_page_by_board_state_and_text() {
    let scene = Scene::new();
    let mut home = scene.open();
    let many = |from: u64| (from..from + 30).map(|number| pair(jpeg(number), &format!("Owl {number}"), 0)).collect();
    scene.bring(&mut home, "garden", many(0));
    scene.bring(&mut home, "roof", many(100));
    let mut filter = PairFilter { limit: 25, ..PairFilter::default() };
    let mut all = Vec::new();
    loop {
        let page = home.pairs(&filter).unwrap();
        assert!(page.pairs.len() <= 25);
        all.extend(texts(&page));
        let Some(next) = page.next else { break };
        filter.after = next;
    }
    assert_eq!(all.len(), 60);
    assert_eq!((all[0].as_str(), all[59].as_str()), ("Owl 0", "Owl 129"));
    let listed = |filter: PairFilter| texts(&home.pairs(&PairFilter { limit: 100, ..filter }).unwrap());
    assert_eq!(listed(PairFilter { device: Some("roof".parse().unwrap()), ..PairFilter::default() }).len(), 30);
    assert_eq!(listed(PairFilter { text: Some("owl 12".into()), ..PairFilter::default() }).len(), 11);
    assert!(listed(PairFilter { state: Some(State::Rejected), ..PairFilter::default() }).is_empty());
}

#[test]
fn a_pair_is_found_by_digits_or_board_and_name_and_its_picture_is_the_one_that_came() {
    let scene = Scene::new();
    let mut home = scene.open();
    let originals = scene.bring(&mut home, "garden", (0..20).map(|n| pair(jpeg(n), "a cat", 0)).collect());
    for (number, original) in originals.iter().enumerate() {
        let hash = exchange::Digest::from(original.sha256).to_string();
        for name in [&hash[..13], &hash, &format!("garden/{}", original.id)] {
            let found = home.pair(&name.parse().unwrap()).unwrap();
            assert_eq!(home.picture(&found).unwrap(), Some(jpeg(number as u64)));
        }
    }
    for name in ["abc", "ABCD", "garden", "garden/", "garden/x", "xyz1", &"a".repeat(65)] {
        assert!(matches!(name.parse::<PairName>(), Err(CurationError::Name { .. })), "{name}");
    }
    assert!(matches!(home.pair(&"garden/9-9".parse().unwrap()), Err(CurationError::Unknown { .. })));
    let found = home.pairs(&PairFilter { limit: 1, ..PairFilter::default() }).unwrap().pairs.remove(0);
    let path = home.shelf().path(found.shard);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[found.picture_at.unwrap() as usize + 9] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(home.picture(&found), Err(CurationError::Damaged { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(home.picture(&found), Err(CurationError::Shelf { .. })));
}
