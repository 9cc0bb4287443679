use proptest::prelude::*;

use super::*;

fn settings() -> Settings {
    Settings { audit: 0.0, ..Settings::default() }
}

fn text(words: &str, origin: Origin, itm: f32) -> Text<'_> {
    Text { words, origin, itm: Some(itm) }
}

fn decide(settings: &Settings, texts: &[Text<'_>]) -> Decision {
    Filter::new(settings).decide(b"pair", texts, 0)
}

#[test]
fn both_kinds_of_texts_are_judged_by_the_threshold() {
    let texts = [
        text("a dog", Origin::Caption, 0.9),
        text("a small dog", Origin::Candidate, 0.49),
        text("Rex", Origin::Sidecar, 0.5),
        text("garden", Origin::Place, 0.1),
        text("the dog dog dog", Origin::Candidate, 0.99),
        text("", Origin::Candidate, 0.99),
        text("A dog.", Origin::Candidate, 0.9),
        text("a dog on grass", Origin::Candidate, f32::NAN),
    ];
    let decision = decide(&settings(), &texts);
    let rejected = Verdict::Rejected;
    assert_eq!(
        decision.texts,
        [
            Verdict::Kept,
            rejected(Reason::Threshold),
            Verdict::Kept,
            rejected(Reason::Threshold),
            rejected(Reason::Loop),
            rejected(Reason::Empty),
            rejected(Reason::Same),
            rejected(Reason::NotANumber),
        ]
    );
    assert_eq!(decision.picture, Fate::Kept);
}

#[test]
fn a_text_whose_twin_was_rejected_is_judged_for_itself() {
    let texts = [text("a dog", Origin::Tag, 0.1), text("a dog", Origin::Sidecar, 0.6)];
    assert_eq!(decide(&settings(), &texts).texts, [Verdict::Rejected(Reason::Threshold), Verdict::Kept]);
}

#[test]
fn of_texts_that_say_the_same_the_one_that_came_along_stays_and_the_others_are_no_sign_of_health() {
    let texts = [
        text("a dog", Origin::Caption, 0.9),
        text("A dog!", Origin::Candidate, 0.9),
        text("a  dog", Origin::Sidecar, 0.9),
        text("a dog.", Origin::Tag, 0.9),
    ];
    let mut filter = Filter::new(&settings());
    let same = Verdict::Rejected(Reason::Same);
    assert_eq!(filter.decide(b"pair", &texts, 0).texts, [same, same, Verdict::Kept, same]);
    assert_eq!((filter.health().decisions(), filter.health().rejected()), (1, Some(0.0)));
}

#[test]
fn words_of_a_person_and_their_picture_are_kept_whatever_the_matcher_says() {
    let texts = [text("no no no no", Origin::Human, 0.01), text("a dog", Origin::Caption, 0.01)];
    let decision = decide(&Settings { per_day: Some(1), ..settings() }, &texts);
    assert_eq!(decision.texts, [Verdict::Kept, Verdict::Rejected(Reason::Threshold)]);
    assert_eq!(decision.picture, Fate::Kept);
    let nothing = decide(&settings(), &[text("  ", Origin::Human, 0.9)]);
    assert_eq!(nothing.picture, Fate::Dropped(Reason::NoText));
}

#[test]
fn without_a_matcher_nothing_but_what_is_degenerate_is_rejected() {
    let unjudged = |words| Text { words, origin: Origin::Caption, itm: None };
    let decision = decide(&settings(), &[unjudged("a dog"), unjudged("dog dog dog dog")]);
    assert_eq!(decision.texts, [Verdict::Kept, Verdict::Rejected(Reason::Loop)]);
}

#[test]
fn a_day_has_its_budget_and_people_are_not_bound_by_it() {
    let mut filter = Filter::new(&Settings { per_day: Some(2), ..settings() });
    let caption = [text("a dog", Origin::Caption, 0.9)];
    let human = [text("look at this", Origin::Human, 0.0)];
    let mut fate = |texts: &[Text<'_>], day| {
        let Decision { texts, picture } = filter.decide(b"pair", texts, day);
        assert!(picture == Fate::Kept || !texts.contains(&Verdict::Kept), "a text is kept alone");
        picture
    };
    assert_eq!(fate(&caption, 7), Fate::Kept);
    assert_eq!(fate(&human, 7), Fate::Kept);
    assert_eq!(fate(&caption, 7), Fate::Dropped(Reason::Day));
    assert_eq!(fate(&human, 7), Fate::Kept);
    assert_eq!(fate(&caption, 8), Fate::Kept);
    // A clock that was set back begins another day.
    assert_eq!(fate(&caption, 3), Fate::Kept);
    filter.resume(3, 2);
    assert_eq!(filter.decide(b"pair", &caption, 3).picture, Fate::Dropped(Reason::Day));
}

#[test]
fn the_best_share_of_texts_is_kept_by_rule_top() {
    let mut filter = Filter::new(&Settings { rule: Rule::Top, top: 0.25, threshold: 1.0, ..settings() });
    let kept = (0..2000_u32)
        .filter(|number| {
            let itm = (number.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32;
            let words = format!("dog number {number}");
            filter.decide(b"pair", &[text(&words, Origin::Caption, itm)], 0).picture == Fate::Kept
        })
        .count();
    assert!((478..=522).contains(&kept), "{kept}");
    assert_eq!(filter.health().decisions(), 500);
    assert!((filter.health().rejected().unwrap() - 0.75).abs() < 0.05);
}

#[test]
fn some_rejected_pictures_are_audited_and_always_the_same_ones() {
    let mut filter = Filter::new(&Settings { audit: 0.1, ..Settings::default() });
    let mut audited = |from: u64| -> Vec<u64> {
        let bad = [text("a dog", Origin::Caption, 0.0)];
        (from..from + 1000)
            .filter(|pair| filter.decide(&pair.to_be_bytes(), &bad, 0).picture == Fate::Audited(Reason::NoText))
            .collect()
    };
    let first = audited(0);
    assert!((60..140).contains(&first.len()), "{}", first.len());
    assert_eq!(audited(0), first);
}

proptest! {
    #[test]
    fn decisions_are_the_same_for_the_same_stream(
        stream in prop::collection::vec((0_u8..4, 0.0_f32..1.0, 0_i64..3), 0..100),
        is_top in any::<bool>(),
    ) {
        let rule = if is_top { Rule::Top } else { Rule::Threshold };
        let settings = Settings { rule, per_day: Some(20), audit: 0.3, ..Settings::default() };
        let decide = || -> Vec<Decision> {
            let mut filter = Filter::new(&settings);
            let origins = [Origin::Caption, Origin::Candidate, Origin::Human, Origin::Tag];
            let decisions = stream.iter().enumerate().map(|(pair, (origin, itm, day))| {
                let texts = [text("some words", origins[usize::from(*origin)], *itm), text("others", Origin::Caption, 0.5)];
                filter.decide(&pair.to_be_bytes(), &texts, *day)
            });
            decisions.collect()
        };
        let decisions = decide();
        prop_assert_eq!(&decisions, &decide());
        for (decision, (origin, ..)) in decisions.iter().zip(&stream) {
            prop_assert_eq!(decision.texts.len(), 2);
            prop_assert!(*origin != 2 || decision.picture == Fate::Kept);
        }
    }
}
