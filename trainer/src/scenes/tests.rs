use super::*;

fn settings() -> SceneSettings {
    SceneSettings { seed: 7, ..SceneSettings::default() }
}

fn scenes(settings: &SceneSettings) -> Scenes {
    Scenes::new(settings).unwrap()
}

#[test]
fn a_scene_is_the_same_in_any_order_and_another_with_another_seed() {
    let forwards: Vec<Scene> = (0..8).map(|index| scenes(&settings()).scene(index)).collect();
    let source = scenes(&settings());
    for index in (0..8).rev() {
        assert_eq!(source.scene(index), forwards[index as usize]);
    }
    let other = scenes(&SceneSettings { seed: 8, ..settings() });
    assert!((0..8).any(|index| other.truth(index) != forwards[index as usize].truth));
    assert_eq!(forwards[3].picture.width(), 64);
}

#[test]
fn objects_stand_where_the_caption_says_apart_and_within_the_picture() {
    let source = scenes(&settings());
    for index in 0..2000 {
        let truth = source.truth(index);
        let inside = |[left, top, width, height]: [f32; 4]| {
            left >= -0.01 && top >= -0.01 && left + width <= 64.01 && top + height <= 64.01 && width.max(height) > 8.0
        };
        assert!(truth.objects.iter().all(|object| inside(object.place)), "scene {index}: {truth:?}");
        for (place, object) in truth.objects.iter().enumerate() {
            for other in &truth.objects[..place] {
                assert!(are_apart(object.place, other.place), "scene {index}: {truth:?}");
            }
        }
        if let Arrangement::Pair { first, relation, second } = &truth.arrangement {
            assert_eq!([&truth.objects[0].noun, &truth.objects[1].noun], [first, second]);
            let centre = |object: &caption::Object| {
                let [left, top, width, height] = object.place;
                (left + 0.5 * width, top + 0.5 * height)
            };
            let ((x, y), (other_x, other_y)) = (centre(&truth.objects[0]), centre(&truth.objects[1]));
            let (along, across) = match relation {
                Relation::LeftOf => (other_x - x, other_y - y),
                Relation::RightOf => (x - other_x, other_y - y),
                Relation::Above => (other_y - y, other_x - x),
                Relation::Below => (y - other_y, other_x - x),
            };
            assert!(along > 1.2 * across.abs() && along > 16.0, "scene {index}: {truth:?}");
        } else if let Arrangement::Group { noun, count } = &truth.arrangement {
            assert_eq!(truth.objects.iter().filter(|object| object.noun == *noun).count(), *count);
        }
    }
}

fn are_apart(a: [f32; 4], b: [f32; 4]) -> bool {
    let gap = |side: usize| (a[side] - b[side] - b[side + 2]).max(b[side] - a[side] - a[side + 2]);
    gap(0).max(gap(1)) >= -0.01
}

#[test]
fn an_object_can_be_seen_in_its_box() {
    let source = scenes(&SceneSettings { largest_count: 1, pair_share: 0.0, ..settings() });
    for index in 0..100 {
        let Scene { picture, truth, .. } = source.scene(index);
        let empty = Truth { objects: Vec::new(), ..truth.clone() };
        let without = canvas::paint(&empty, &source.cutouts, 64, &mut source.chance("picture", index));
        let [left, top, width, height] = truth.objects[0].place;
        let pixels = picture.values().chunks(3).zip(without.values().chunks(3)).enumerate();
        let mut changed = 0;
        for (at, (with, without)) in pixels {
            let (x, y) = ((at % 64) as f32, (at / 64) as f32);
            let change: u32 = with.iter().zip(without).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
            let is_inside = x + 1.0 > left && x < left + width && y + 1.0 > top && y < top + height;
            assert!(is_inside || change == 0, "scene {index}: {x}, {y}");
            changed += u32::from(change > 24);
        }
        assert!(changed as f32 > 0.1 * width * height, "scene {index}: {} changes {changed} pixels", truth.caption());
    }
}

#[test]
fn held_out_combinations_and_cutouts_are_never_in_training() {
    let training = scenes(&settings());
    let held_out = scenes(&SceneSettings { split: Split::HeldOut, seed: 9, ..settings() });
    let mut seen = std::collections::HashSet::new();
    let mut cutouts = std::collections::HashSet::new();
    for index in 0..5000 {
        let truth = training.truth(index);
        seen.extend(truth.captions());
        cutouts.extend(truth.objects.into_iter().map(|object| (object.noun, object.cutout)));
    }
    assert_eq!(cutouts.len(), 12 * 3);
    for index in 0..1000 {
        let truth = held_out.truth(index);
        assert!(!seen.contains(&truth.caption()), "{}", truth.caption());
        assert!(truth.objects.into_iter().all(|object| !cutouts.contains(&(object.noun, object.cutout))));
    }
    assert!(training.nouns_in_both_splits().is_empty());
}

#[test]
fn the_share_of_wrong_texts_is_as_asked_and_each_kind_is_wrong() {
    let noise = NoiseSettings { share: 0.5, ..NoiseSettings::default() };
    let source = scenes(&SceneSettings { noise, ..settings() });
    let mut counts = std::collections::HashMap::new();
    for index in 0..3000 {
        let NoisyText { text, kind } = source.text(index);
        *counts.entry(kind).or_insert(0) += 1;
        let captions = source.truth(index).captions();
        assert_eq!(captions.contains(&text), kind.is_none(), "scene {index}: {text:?} {kind:?}");
        assert_eq!(text.is_empty(), kind == Some(NoiseKind::Empty));
        assert_eq!(source.text(index).text, text);
    }
    let right = counts[&None];
    assert!((1400..1600).contains(&right), "{right} of 3000 are right");
    for kind in NoiseKind::ALL {
        assert!((190..310).contains(&counts[&Some(kind)]), "{kind:?}: {}", counts[&Some(kind)]);
        assert!(!source.truth(5).captions().contains(&source.wrong_text(5, kind)));
    }
}

#[test]
fn a_share_of_zero_leaves_every_text_true() {
    let source = scenes(&settings());
    assert!((0..200).all(|index| source.text(index) == NoisyText { text: source.truth(index).caption(), kind: None }));
}

#[test]
fn every_word_of_every_text_that_is_true_is_in_the_vocabulary() {
    let source = scenes(&settings());
    let words = source.vocabulary();
    assert!(words.is_sorted());
    for index in 0..1000 {
        assert!(source.truth(index).caption().split(' ').all(|word| words.binary_search(&word.to_owned()).is_ok()));
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let cases: [(SceneSettings, &str); 6] = [
        (SceneSettings { side: 4, ..settings() }, "scenes: side is 4, but it must be 16 to 2048 pixels"),
        (
            SceneSettings { pair_share: f64::NAN, ..settings() },
            "scenes: pair-share is NaN, but it must be between 0 and 1",
        ),
        (SceneSettings { largest_count: 4, ..settings() }, "scenes: largest-count is 4, but it must be 1 to 3"),
        (
            SceneSettings { backgrounds: vec![], ..settings() },
            "scenes: backgrounds is empty, but it must be one or more",
        ),
        (
            SceneSettings { nouns: vec!["unicorn".to_owned()], ..settings() },
            "scenes: there is no cut-out of \"unicorn\"",
        ),
        (SceneSettings { nouns: vec!["car".to_owned()], ..settings() }, "scenes: none of the pairs is in the split"),
    ];
    for (settings, message) in cases {
        let found = Scenes::new(&settings).err().unwrap().to_string();
        assert!(found.starts_with(message), "{found}");
    }
}

#[test]
fn a_folder_of_pictures_gives_its_nouns_and_one_that_is_not_a_picture_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("owl")).unwrap();
    let mut picture = image::RgbaImage::new(40, 30);
    (10..30).for_each(|x| picture.put_pixel(x, 15, image::Rgba([200, 10, 10, 255])));
    for name in ["owl/a.png", "owl/b.png", "ice_cream.png"] {
        picture.save(folder.path().join(name)).unwrap();
    }
    let settings = SceneSettings {
        cutouts: CutoutSource::Folder,
        cutout_folder: Some(folder.path().to_owned()),
        held_out_combinations: 0.0,
        ..settings()
    };
    let source = scenes(&settings);
    assert_eq!(source.nouns(), ["ice cream", "owl"]);
    assert_eq!(source.nouns_in_both_splits(), ["ice cream"]);
    assert_eq!(source.cutouts.named("ice cream", "ice_cream.png").unwrap().size(), [20, 1]);
    std::fs::write(folder.path().join("bear.png"), b"not a picture").unwrap();
    let message = Scenes::new(&settings).err().unwrap().to_string();
    assert!(message.contains("bear.png is not a cut-out: "), "{message}");
}

#[test]
fn stamps_are_found_by_the_last_word_of_their_description() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("vehicles");
    std::fs::create_dir(&inside).unwrap();
    for (name, description) in
        [("green", "A green bus.\nde.utf8=Ein Bus."), ("columbus", "A columbus."), ("car", "A car.")]
    {
        image::RgbaImage::from_pixel(8, 8, image::Rgba([9, 9, 9, 255]))
            .save(inside.join(format!("{name}.png")))
            .unwrap();
        std::fs::write(inside.join(format!("{name}.txt")), description).unwrap();
    }
    let settings = SceneSettings {
        cutouts: CutoutSource::Stamps,
        cutout_folder: Some(folder.path().to_owned()),
        nouns: vec!["bus".to_owned()],
        pair_share: 0.0,
        ..settings()
    };
    let source = scenes(&settings);
    assert!(source.cutouts.named("bus", "vehicles/green.png").is_some());
    assert!(source.cutouts.named("bus", "vehicles/columbus.png").is_none());
    let nowhere = SceneSettings { cutout_folder: Some(folder.path().join("nowhere")), ..settings };
    assert!(Scenes::new(&nowhere).err().unwrap().to_string().contains("install the package tuxpaint-stamps-default"));
}
