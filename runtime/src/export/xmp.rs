//! XMP: the same as RDF, for programs that read it rather than EXIF, and what EXIF has no place for.
//!
//! Sources: Adobe's XMP specification, part 1, 7 (RDF), and part 2 (Dublin Core, XMP basic, EXIF); IPTC photo metadata for
//! `Iptc4xmpCore:Location`.

use super::metadata::Known;

/// What our own properties are called.
const NAMESPACE: &str = "https://edgeblip.dev/ns/pair/1.0/";

/// The packet.
pub(super) fn packet(known: &Known) -> String {
    let mut properties = String::new();
    let mut simple = |name: &str, value: &str| properties.push_str(&format!("<{name}>{}</{name}>", escaped(value)));
    simple("xmp:CreatorTool", concat!("edgeblip ", env!("CARGO_PKG_VERSION")));
    if let Some(taken) = &known.taken {
        let clock = if known.is_trusted { "known" } else { "guessed" };
        simple("edgeblip:clock", clock);
        if known.is_trusted {
            simple("exif:DateTimeOriginal", taken);
            simple("photoshop:DateCreated", taken);
        } else {
            simple("edgeblip:guessedTime", taken);
        }
    }
    if let Some([north, east]) = known.coordinates {
        simple("exif:GPSLatitude", &minutes(north, ['N', 'S']));
        simple("exif:GPSLongitude", &minutes(east, ['E', 'W']));
    }
    if let Some(place) = &known.place {
        simple("Iptc4xmpCore:Location", place);
    }
    if let Some((itm, bundle)) = &known.judged {
        simple("edgeblip:match", &format!("{itm:.6}"));
        simple("edgeblip:bundle", bundle);
    }
    if let Some(caption) = &known.caption {
        let text = format!("<rdf:Alt><rdf:li xml:lang=\"x-default\">{}</rdf:li></rdf:Alt>", escaped(caption));
        properties.push_str(&format!("<dc:description>{text}</dc:description>"));
    }
    if !known.texts.is_empty() {
        let items: String = known.texts.iter().map(|text| format!("<rdf:li>{}</rdf:li>", escaped(text))).collect();
        properties.push_str(&format!("<edgeblip:texts><rdf:Seq>{items}</rdf:Seq></edgeblip:texts>"));
    }
    format!(
        "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\
         <x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
         <rdf:Description rdf:about=\"\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\" xmlns:exif=\"http://ns.adobe.com/exif/1.0/\" \
         xmlns:xmp=\"http://ns.adobe.com/xap/1.0/\" xmlns:photoshop=\"http://ns.adobe.com/photoshop/1.0/\" \
         xmlns:Iptc4xmpCore=\"http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/\" xmlns:edgeblip=\"{NAMESPACE}\">{properties}\
         </rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end=\"r\"?>"
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

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
        assert_eq!(escaped("a <b> & \"c\""), "a &lt;b&gt; &amp; &quot;c&quot;");
    }
}
