//! Frames of a camera against swscale: `tests/goldens/frames`, made by the script beside them.

use std::path::Path;

use picture::frame::{Matrix, PixelFormat, Range, RawFrame};

/// Most that a value may differ, of 255: swscale is as far from the exact conversion.
const TOLERANCE: u8 = 1;
const WIDTH: usize = 34;
const HEIGHT: usize = 18;

fn read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/frames").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The frame with `padding` bytes after each row of its first plane, and its stride.
fn padded(bytes: &[u8], format: PixelFormat, padding: usize) -> (Vec<u8>, usize) {
    let pad = |plane: &[u8], row: usize, padding: usize| -> Vec<u8> {
        plane.chunks(row).flat_map(|row| [row, &vec![77; padding][..]].concat()).collect()
    };
    let (luma, chroma) = bytes.split_at(WIDTH * HEIGHT);
    match format {
        PixelFormat::Yuyv => (pad(bytes, WIDTH * 2, padding), WIDTH * 2 + padding),
        PixelFormat::Nv12 => (pad(bytes, WIDTH, padding), WIDTH + padding),
        PixelFormat::I420 => {
            ([pad(luma, WIDTH, padding), pad(chroma, WIDTH / 2, padding / 2)].concat(), WIDTH + padding)
        }
    }
}

#[test]
fn frames_are_as_swscale_makes_them() {
    for (format, name) in [(PixelFormat::Yuyv, "yuyv"), (PixelFormat::I420, "i420"), (PixelFormat::Nv12, "nv12")] {
        for (matrix, matrix_name) in [(Matrix::Bt601, "bt601"), (Matrix::Bt709, "bt709")] {
            for (range, range_name) in [(Range::Limited, "limited"), (Range::Full, "full")] {
                let golden = read(&format!("{name}.{matrix_name}.{range_name}.rgb"));
                for padding in [0, 2, 30] {
                    let (bytes, stride) = padded(&read(&format!("{name}.yuv")), format, padding);
                    let frame = RawFrame { format, width: WIDTH, height: HEIGHT, stride, matrix, range, bytes: &bytes };
                    let ours = frame.to_rgb().unwrap();
                    assert_eq!(ours.values().len(), golden.len());
                    let pairs = || ours.values().iter().zip(&golden);
                    let worst = pairs().map(|(ours, golden)| ours.abs_diff(*golden)).max();
                    let unequal = pairs().filter(|(ours, golden)| ours != golden).count();
                    let place = format!("{name} {matrix_name} {range_name} with {padding} bytes of padding");
                    assert!(worst <= Some(TOLERANCE), "{place}: {worst:?} off");
                    assert!(unequal * 100 <= golden.len(), "{place}: {unequal} values differ");
                }
            }
        }
    }
}

#[test]
fn planes_in_either_order_give_one_picture() {
    let [planar, paired] = [(PixelFormat::I420, "i420.yuv"), (PixelFormat::Nv12, "nv12.yuv")].map(|(format, name)| {
        let (matrix, range, stride) = (Matrix::Bt709, Range::Limited, WIDTH);
        RawFrame { format, width: WIDTH, height: HEIGHT, stride, matrix, range, bytes: &read(name) }.to_rgb().unwrap()
    });
    assert!(planar == paired);
}
