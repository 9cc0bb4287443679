//! Settings, as somebody may write them.

use super::*;

fn source(setting: &str) -> Source {
    setting.parse().unwrap()
}

fn message(setting: &str) -> String {
    setting.parse::<Source>().unwrap_err().to_string()
}

#[test]
fn every_kind_of_source_is_read() {
    let device = PathBuf::from("/dev/video0");
    let plain = Source::V4l { device, size: None, rate: None, format: None, colours: Colours::default() };
    assert_eq!(source("v4l:/dev/video0"), plain);
    let colours = Colours { matrix: Some(Matrix::Bt709), range: Some(Range::Full) };
    assert_eq!(
        source("v4l:/dev/v4l/by-id/cam?width=1280&height=720&rate=2.5&format=YUYV&matrix=bt709&range=full"),
        Source::V4l {
            device: "/dev/v4l/by-id/cam".into(),
            size: Some(FrameSize { width: 1280, height: 720 }),
            rate: Rate::new(2.5),
            format: Some(VideoFormat::Yuyv),
            colours,
        }
    );
    assert_eq!(
        source("rpicam:1?format=yuv420&width=640&height=480&rotation=180"),
        Source::Rpicam {
            camera: 1,
            size: Some(FrameSize { width: 640, height: 480 }),
            rate: None,
            format: VideoFormat::I420,
            is_upside_down: true,
        }
    );
    assert_eq!(source("folder:in coming"), Source::Folder("in coming".into()));
    assert_eq!(source("picture:a?b#c.jpg"), Source::Picture("a?b#c.jpg".into()));
    assert_eq!(
        source("video:clip.mp4?rate=1&pace=live"),
        Source::Video { file: "clip.mp4".into(), rate: Rate(1.0), pace: Pace::Live }
    );
    assert_eq!(source(" - "), Source::StandardInput { pace: Pace::Live });
    assert_eq!(source("-?pace=patient"), Source::StandardInput { pace: Pace::Patient });
    assert!(matches!(source("rtsp://host/a?b=c#rate=2"), Source::Network { rate: Rate(2.0), .. }));
    assert!(matches!(source("https://host/a"), Source::Network { rate: Rate::USUAL, .. }));
    assert!(matches!(source("ffmpeg:http://host/a.m3u8"), Source::Network { .. }));
    assert!(matches!(source("http://host:8080/?action=stream"), Source::Http { rate: None, .. }));
}

#[test]
fn wrong_settings_say_what_is_right() {
    assert!(message("camera").starts_with("\"camera\" is no source; use v4l:DEVICE, "));
    assert!(message("gopher://x").starts_with("\"gopher://x\" is no source"));
    assert_eq!(message("v4l:"), "v4l: needs a path after the colon");
    assert_eq!(message("rpicam:left"), "rpicam: needs the number of a camera, as in rpicam:0");
    let known = "v4l: has no option \"fps\"; it has width, height, rate, format, matrix, range";
    assert_eq!(message("v4l:/dev/video0?fps=3"), known);
    assert_eq!(message("v4l:/dev/video0?width=3"), "a size needs both width=… and height=…");
    assert_eq!(message("v4l:x?width=65535&height=65535"), "a size needs at most 33554432 pixels");
    assert_eq!(message("v4l:x?format=H264"), "format=H264 is not MJPG, YUYV, NV12, YU12 or GREY");
    for rate in ["0", "-1", "nan", "inf", "1e9", "fast", ""] {
        assert!(message(&format!("v4l:x?rate={rate}")).starts_with("rate="), "{rate}");
    }
    assert!(message("rpicam:0?format=yuv420").contains("multiple of 64"));
    assert!(message("rpicam:0?format=yuv420&width=780&height=360").contains("multiple of 64"));
    for url in ["rtsp://", "http:///path", "http://user@/", "http://a b/", "http://a/\r\nX: y", "http:x"] {
        assert!(message(url).contains("a URL such as"), "{url}");
    }
}

#[test]
fn passwords_are_used_and_never_shown() {
    let setting = "http://me:secret%21@camera:81/stream?key=private";
    let Source::Http { url, .. } = source(setting) else { panic!() };
    assert_eq!(url.user(), Some("me:secret%21"));
    assert_eq!(url.host_and_port(80), Some(("camera", 81)));
    assert_eq!(url.target(), "/stream?key=private");
    for shown in [url.to_string(), format!("{url:?}"), source(setting).to_string(), format!("{:?}", source(setting))] {
        assert!(!shown.contains("secret") && !shown.contains("private"), "{shown}");
    }
    assert_eq!(url.to_string(), "http://…@camera:81/stream?…");
    assert_eq!(NetworkUrl::new("http://a@b@c/").unwrap().authority(), "c");
}

#[test]
fn hosts_and_redirects_are_told_apart() {
    let url = |text: &str| NetworkUrl::new(text).unwrap();
    assert_eq!(url("http://[::1]:8080/a").host_and_port(80), Some(("::1", 8080)));
    assert_eq!(url("http://[::1]").host_and_port(80), Some(("::1", 80)));
    assert_eq!(url("http://host:port/").host_and_port(80), None);
    assert_eq!(url("http://:80/").host_and_port(80), None);
    assert_eq!(url("http://host?a").target(), "/?a");
    let from = url("http://me:secret@host:81/a/b");
    assert_eq!(from.redirected("/c").unwrap().secret(), "http://me:secret@host:81/c");
    assert_eq!(from.redirected("http://other/").unwrap().user(), None);
    assert_eq!(from.redirected("//other/"), None);
}

#[test]
fn what_a_setting_does_not_say_is_as_usual() {
    let usual = Usual { size: Some(FrameSize { width: 640, height: 480 }), rate: Rate::new(3.0) };
    let read = |setting| Source::read(setting, usual).unwrap();
    assert_eq!(read("rpicam:0?format=yuv420"), "rpicam:0?format=yuv420&width=640&height=480&rate=3".parse().unwrap());
    assert_eq!(read("v4l:/dev/video1?rate=9"), "v4l:/dev/video1?width=640&height=480&rate=9".parse().unwrap());
    assert_eq!(read("video:a.mp4"), "video:a.mp4".parse().unwrap());
    let odd = Usual { size: Some(FrameSize { width: 650, height: 480 }), ..usual };
    assert!(Source::read("rpicam:0?format=yuv420", odd).is_err());
}
