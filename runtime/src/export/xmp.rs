//! XMP: the same as RDF, for programs that read it rather than EXIF, and what EXIF has no place for.
//!
//! Sources: Adobe's XMP specification, part 1, 7 (RDF), and part 2 (Dublin Core, XMP basic, EXIF); IPTC photo metadata for
//! `Iptc4xmpCore:Location`.

use super::known::Known;

/// What our own properties are called.
const NAMESPACE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/ns/pair/1.0/");
/// The end of all that a packet says.
const END: &str = "</rdf:RDF>";

/// A packet for a picture that has none.
pub(super) fn packet(known: &Known) -> String {
    format!(
        "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\
         <x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
         {}{END}</x:xmpmeta><?xpacket end=\"r\"?>",
        description(known, "")
    )
}

/// A packet with what is known besides: a property that is there stays as it is. `None` if there is no end to be found.
pub(super) fn merged(packet: &str, known: &Known) -> Option<String> {
    let (before, after) = packet.rsplit_once(END)?;
    Some(format!("{before}{}{END}{after}", description(known, packet)))
}

/// All properties that a packet does not have.
fn description(known: &Known, packet: &str) -> String {
    let has = |name: &str| packet.contains(name);
    let mut properties = String::new();
    let mut add = |name: &str, value: String| {
        if !has(name) {
            properties.push_str(&format!("<{name}>{value}</{name}>"));
        }
    };
    add("xmp:CreatorTool", concat!("edgeblip ", env!("CARGO_PKG_VERSION")).to_owned());
    if let Some(taken) = &known.taken {
        let (clock, names) = match known.is_trusted {
            true => ("known", ["exif:DateTimeOriginal", "photoshop:DateCreated"].as_slice()),
            false => ("guessed", ["edgeblip:GuessedTime"].as_slice()),
        };
        add("edgeblip:Clock", clock.to_owned());
        names.iter().for_each(|name| add(name, taken.clone()));
    }
    if let Some([north, east]) = known.coordinates.filter(|_| !has("exif:GPSLatitude")) {
        add("exif:GPSLatitude", minutes(north, ['N', 'S']));
        add("exif:GPSLongitude", minutes(east, ['E', 'W']));
    }
    if let Some(place) = &known.place {
        add("Iptc4xmpCore:Location", escaped(place));
    }
    if !known.camera.is_empty() {
        add("edgeblip:Camera", escaped(&known.camera));
    }
    if let Some((itm, bundle)) = &known.judged {
        add("edgeblip:Match", format!("{itm:.6}"));
        add("edgeblip:Bundle", escaped(bundle));
    }
    if let Some(caption) = &known.caption {
        let caption = format!("<rdf:Alt><rdf:li xml:lang=\"x-default\">{}</rdf:li></rdf:Alt>", escaped(caption));
        add("dc:description", caption);
    }
    for (name, kind, texts) in [("dc:subject", "Bag", &known.keywords), ("edgeblip:Texts", "Seq", &known.texts)] {
        if !texts.is_empty() {
            let items: String = texts.iter().map(|text| format!("<rdf:li>{}</rdf:li>", escaped(text))).collect();
            add(name, format!("<rdf:{kind}>{items}</rdf:{kind}>"));
        }
    }
    format!(
        "<rdf:Description rdf:about=\"\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\" \
         xmlns:exif=\"http://ns.adobe.com/exif/1.0/\" xmlns:xmp=\"http://ns.adobe.com/xap/1.0/\" \
         xmlns:photoshop=\"http://ns.adobe.com/photoshop/1.0/\" \
         xmlns:Iptc4xmpCore=\"http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/\" xmlns:edgeblip=\"{NAMESPACE}\">{properties}\
         </rdf:Description>"
    )
}

/// Degrees and minutes, as `52,31.200480N`.
fn minutes(degrees: f64, sides: [char; 2]) -> String {
    const PART: f64 = 1e6;
    let parts = (degrees.abs() * 60.0 * PART).round();
    let minutes = parts % (60.0 * PART) / PART;
    let side = if degrees < 0.0 { sides[1] } else { sides[0] };
    format!("{},{minutes:.6}{side}", (parts / (60.0 * PART)).trunc())
}

/// A text between tags. It is printable, so that no character is left that XML cannot have.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_are_told_in_minutes() {
        assert_eq!(minutes(-52.520_008, ['N', 'S']), "52,31.200480S");
        assert_eq!(minutes(179.999_999_999_99, ['E', 'W']), "180,0.000000E");
    }

    #[test]
    fn a_text_that_is_markup_stays_a_text() {
        assert_eq!(escaped("a <b> & ]]> \"c\""), "a &lt;b&gt; &amp; ]]&gt; \"c\"");
    }

    #[test]
    fn a_property_that_is_there_stays_and_others_are_added() {
        let camera = "<rdf:RDF><rdf:Description><dc:description>theirs</dc:description></rdf:Description></rdf:RDF> ";
        let known = Known { caption: Some("ours".to_owned()), place: Some("a nest".to_owned()), ..Known::default() };
        let merged = merged(camera, &known).unwrap();
        assert!(merged.contains("theirs") && !merged.contains("ours"));
        assert!(merged.contains("<Iptc4xmpCore:Location>a nest</Iptc4xmpCore:Location>"));
        assert!(merged.ends_with("</rdf:Description></rdf:RDF> "));
        assert_eq!(super::merged("no packet", &known), None);
    }
}
