//! What is known about a picture, into the picture.

use super::known::Known;
use super::{exif, jpeg, xmp};

/// Whether all that is known is in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    All,
    /// EXIF or XMP of its own, or one of them, cannot be added to, and stays as it is.
    Part,
}

/// The picture with EXIF and XMP, or with what they had already and this.
pub(super) fn written(known: &Known, picture: Vec<u8>) -> (Vec<u8>, Told) {
    let exif = match (jpeg::written(&picture, jpeg::EXIF), jpeg::size(&picture)) {
        (Some(camera), _) => exif::merged(camera, known),
        (None, Some(size)) => Some(exif::block(known, size)),
        (None, None) => None,
    };
    let with_exif = exif.and_then(|block| jpeg::with(&picture, jpeg::EXIF, &block));
    let xmp = match jpeg::written(&picture, jpeg::XMP) {
        Some(packet) => std::str::from_utf8(packet).ok().and_then(|packet| xmp::merged(packet, known)),
        None => Some(xmp::packet(known)),
    };
    let picture_so_far = with_exif.as_deref().unwrap_or(&picture);
    let with_xmp = xmp.and_then(|packet| jpeg::with(picture_so_far, jpeg::XMP, packet.as_bytes()));
    let told = if with_exif.is_some() && with_xmp.is_some() { Told::All } else { Told::Part };
    (with_xmp.or(with_exif).unwrap_or(picture), told)
}
