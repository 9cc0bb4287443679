//! Sources that need no other program: files and folders.

use std::path::Path;

use super::*;
use crate::mask::Shape;
use crate::mjpeg::tests::jpeg;

const SOON: Duration = Duration::from_secs(60);

fn options() -> Options {
    let moment = Duration::from_millis(5);
    Options {
        backoff: Backoff { first: moment, longest: moment, steady: moment },
        pictures: Pictures { interval: moment, settle: moment },
        ..Options::default()
    }
}

fn camera(setting: &str, options: Options) -> Camera {
    Camera::start(setting.parse().unwrap(), options).unwrap()
}

fn watched(folder: &Path, options: Options) -> Camera {
    camera(&format!("folder:{}", folder.display()), options)
}

fn next(camera: &Camera) -> Frame {
    match camera.next(Instant::now() + SOON) {
        Next::Frame(frame) => *frame,
        other => panic!("{other:?} of {camera:?}"),
    }
}

/// Waits until the state is as it should be, which the other thread sees to.
fn until(camera: &Camera, is_so: impl Fn(&Camera) -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so(camera) {
        assert!(Instant::now() < deadline, "{camera:?}");
        assert!(matches!(camera.next(Instant::now() + Duration::from_millis(2)), Next::Nothing));
    }
}

#[test]
fn picture_is_given_once_with_its_note() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cat.jpg");
    std::fs::write(&path, jpeg(7, b"")).unwrap();
    std::fs::write(folder.path().join("cat.txt"), "\u{feff} a cat on a wall\r\n").unwrap();
    let camera = camera(&format!("picture:{}", path.display()), options());
    let frame = next(&camera);
    assert_eq!(frame.jpeg().unwrap(), jpeg(7, b""));
    assert_eq!((frame.note.as_deref(), frame.sequence), (Some("a cat on a wall"), 1));
    assert_eq!(frame.origin, path.display().to_string());
    assert!(matches!(camera.next(Instant::now() + SOON), Next::Finished));
    assert_eq!(camera.state(), State::Finished { fault: None });
    assert_eq!(camera.counts(), Counts { captured: 1, delivered: 1, ..Counts::default() });
}

#[test]
fn picture_that_is_not_there_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.ppm");
    let camera = camera(&format!("picture:{}", path.display()), options());
    until(&camera, |camera| matches!(camera.state(), State::Waiting { tries: 3.., .. }));
    let State::Waiting { reason, .. } = camera.state() else { panic!() };
    assert!(reason.contains("late.ppm: cannot be read ("), "{reason}");
    std::fs::write(folder.path().join("part"), b"P6 1 1 255\n\x01\x02\x03").unwrap();
    std::fs::rename(folder.path().join("part"), &path).unwrap();
    let frame = next(&camera);
    assert_eq!(frame.to_rgb().unwrap().values(), [1, 2, 3]);
    assert!(picture::decode(frame.jpeg().unwrap()).is_ok());
}

#[test]
fn folder_gives_each_picture_once_and_the_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, shade: u8, age: u64| {
        let path = folder.path().join(name);
        std::fs::write(&path, jpeg(shade, b"")).unwrap();
        let time = std::time::SystemTime::now() - Duration::from_secs(age);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    written("b.jpg", 2, 100);
    written("a.JPG", 3, 50);
    written("c.jpeg", 1, 150);
    written(".hidden.jpg", 9, 10);
    written("notes.txt", 9, 10);
    std::fs::create_dir(folder.path().join("folder.jpg")).unwrap();
    std::fs::write(folder.path().join("b.jpg.txt"), "the second").unwrap();
    let camera = watched(folder.path(), options());
    let names: Vec<(String, Option<String>)> =
        (0..3).map(|_| next(&camera)).map(|frame| (frame.file.unwrap().name, frame.note)).collect();
    let plain = |name: &str| (name.to_owned(), None);
    assert_eq!(names, [plain("c.jpeg"), ("b.jpg".to_owned(), Some("the second".to_owned())), plain("a.JPG")]);
    written("d.jpg", 4, 10);
    assert_eq!(next(&camera).file.unwrap().name, "d.jpg");
    // Written again, it is another picture.
    written("b.jpg", 5, 0);
    let again = next(&camera);
    assert_eq!((again.file.as_ref().unwrap().name.as_str(), again.jpeg().unwrap()), ("b.jpg", &*jpeg(5, b"")));
    let counts = camera.counts();
    assert_eq!((counts.captured, counts.delivered, counts.unreadable), (5, 5, 0));
}

#[test]
fn pictures_that_an_earlier_run_has_seen_are_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| std::fs::write(folder.path().join(name), jpeg(1, b"")).unwrap();
    (0..5).for_each(|index| write(&format!("{index}.jpg")));
    let first = watched(folder.path(), options());
    let seen: Vec<_> = (0..3).map(|_| next(&first).file.unwrap()).collect();
    drop(first);
    let known = seen.clone();
    let is_seen: IsSeen = Arc::new(move |stamp| known.contains(stamp));
    let second = watched(folder.path(), Options { is_seen: Some(is_seen), ..options() });
    let rest: Vec<_> = (0..2).map(|_| next(&second).file.unwrap()).collect();
    assert!(rest.iter().all(|stamp| !seen.contains(stamp)));
    write("new.jpg");
    assert_eq!(next(&second).file.unwrap().name, "new.jpg");
}

#[test]
fn file_that_is_half_written_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let whole = jpeg(1, b"");
    let path = folder.path().join("slow.jpg");
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let camera = watched(folder.path(), options());
    until(&camera, |camera| camera.counts().unreadable == 1);
    std::fs::write(folder.path().join("other.jpg"), jpeg(2, b"")).unwrap();
    assert_eq!(next(&camera).file.unwrap().name, "other.jpg");
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(next(&camera).jpeg().unwrap(), whole);
}

#[test]
fn folder_that_vanishes_is_waited_for_and_remembered() {
    let place = tempfile::tempdir().unwrap();
    let (folder, away) = (place.path().join("in"), place.path().join("away"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("one.jpg"), jpeg(1, b"")).unwrap();
    let camera = watched(&folder, options());
    assert_eq!(next(&camera).file.unwrap().name, "one.jpg");
    std::fs::rename(&folder, &away).unwrap();
    until(&camera, |camera| matches!(camera.state(), State::Waiting { tries: 2.., .. }));
    std::fs::write(away.join("two.jpg"), jpeg(2, b"")).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    assert_eq!(next(&camera).file.unwrap().name, "two.jpg");
    assert_eq!(camera.state(), State::Streaming);
    assert!(camera.counts().losses >= 2);
}

#[test]
fn what_is_no_picture_is_counted_and_the_rest_comes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("1.jpg", &b""[..]), ("2.png", b"no picture"), ("3.jpg", b"\xff\xd8\xff\xe0")] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    std::fs::write(folder.path().join("4.jpg"), jpeg(1, b"")).unwrap();
    let camera = watched(folder.path(), options());
    assert_eq!(next(&camera).file.unwrap().name, "4.jpg");
    until(&camera, |camera| camera.counts().unreadable == 3);
}

#[test]
fn mask_is_painted_before_a_frame_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    std::fs::write(&path, jpeg(255, b"")).unwrap();
    let all = Shape::Rectangle { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };
    let mask = Mask::new(vec![all]).unwrap();
    let camera = camera(&format!("picture:{}", path.display()), Options { mask, ..options() });
    let frame = next(&camera);
    assert!(matches!(&frame.image, Image::Rgb(rgb) if rgb.values().iter().all(|value| *value == 0)));
    let kept = picture::decode(frame.jpeg().unwrap()).unwrap();
    assert!(kept.values().iter().all(|value| *value <= 1));
    assert!(!frame.jpeg().unwrap().windows(4).any(|bytes| bytes == b"Exif"));
}

#[test]
fn rate_is_the_smallest_that_is_asked_for() {
    let apart = |setting: &str, most: Option<f64>| least_apart(&setting.parse().unwrap(), most.and_then(Rate::new));
    assert_eq!(apart("v4l:/dev/video0", None), Duration::ZERO);
    assert_eq!(apart("v4l:/dev/video0?rate=4", None), Duration::from_millis(250));
    assert_eq!(apart("v4l:/dev/video0?rate=4", Some(2.0)), Duration::from_millis(500));
    assert_eq!(apart("http://host/#rate=2", Some(10.0)), Duration::from_millis(500));
}

#[test]
fn pacer_keeps_the_mean_rate_and_makes_up_for_no_pause() {
    let taken = |least_apart: u64, times: &mut dyn Iterator<Item = u64>| {
        let mut pacer = Pacer::new(Duration::from_millis(least_apart));
        times.filter(|time| pacer.takes(Duration::from_millis(*time))).collect::<Vec<_>>()
    };
    // One that is exactly as fast, and never exactly on time.
    let late = |frame: u64| frame * 37 % 20;
    assert_eq!(taken(100, &mut (0..300).map(|frame| frame * 100 + late(frame))).len(), 300);
    // 30 frames a second.
    let camera = || (0..300).map(|frame| frame * 100 / 3);
    assert_eq!(taken(100, &mut camera()).len(), 100);
    assert!((249..=251).contains(&taken(40, &mut camera()).len()));
    assert_eq!(taken(0, &mut camera()).len(), 300);
    let paused = (0..10).map(|frame| frame * 10).chain((500..510).map(|frame| frame * 10));
    assert_eq!(taken(50, &mut paused.clone()), [0, 40, 90, 5000, 5040, 5090]);
}

#[test]
fn camera_can_be_watched_by_another_thread() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Camera>();
}
