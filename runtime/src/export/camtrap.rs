//! Camtrap DP 1.0.2: what camera traps saw, as a Data Package for ecologists.
//!
//! A deployment is what the configuration calls so; a picture is a medium; a text is an observation of it that nobody has
//! classified yet, with the caption as its comment. Source: camtrap-dp.tdwg.org, version 1.0.2, profile and table schemas.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use blip::caption::Origin;
use serde_json::{Value, json};
use store::{LabelAction, StoredPair, Text};

use super::known::Known;

/// Where the profile and the schemas of the version are.
const SCHEMAS: &str = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2";
/// Radius of the earth in metres. Source: IUGG, mean radius.
const EARTH_M: f64 = 6_371_008.8;
/// Every column of the table schemas, in their order: readers expect all of them.
const DEPLOYMENTS: &[&str] = &[
    "deploymentID",
    "locationID",
    "locationName",
    "latitude",
    "longitude",
    "coordinateUncertainty",
    "deploymentStart",
    "deploymentEnd",
    "setupBy",
    "cameraID",
    "cameraModel",
    "cameraDelay",
    "cameraHeight",
    "cameraDepth",
    "cameraTilt",
    "cameraHeading",
    "detectionDistance",
    "timestampIssues",
    "baitUse",
    "featureType",
    "habitat",
    "deploymentGroups",
    "deploymentTags",
    "deploymentComments",
];
const MEDIA: &[&str] = &[
    "mediaID",
    "deploymentID",
    "captureMethod",
    "timestamp",
    "filePath",
    "filePublic",
    "fileName",
    "fileMediatype",
    "exifData",
    "favorite",
    "mediaComments",
];
const OBSERVATIONS: &[&str] = &[
    "observationID",
    "deploymentID",
    "mediaID",
    "eventID",
    "eventStart",
    "eventEnd",
    "observationLevel",
    "observationType",
    "cameraSetupType",
    "scientificName",
    "count",
    "lifeStage",
    "sex",
    "behavior",
    "individualID",
    "individualPositionRadius",
    "individualPositionAngle",
    "individualSpeed",
    "bboxX",
    "bboxY",
    "bboxWidth",
    "bboxHeight",
    "classificationMethod",
    "classifiedBy",
    "classificationTimestamp",
    "classificationProbability",
    "observationTags",
    "observationComments",
];

/// What a package must say and a store does not know.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// What the study is called.
    pub title: String,
    /// Who made the package.
    pub contributor: String,
    /// How places were chosen: one of the profile's words.
    pub sampling_design: &'static str,
    /// Where boards stood whose configuration does not say it: degrees north and east.
    pub coordinates: Option<[f64; 2]>,
    /// What becomes of pictures whose clock nobody had set.
    pub guessed_times: GuessedTimes,
    /// When the package is made, as RFC 3339.
    pub created: String,
}

/// What becomes of pictures whose clock nobody had set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuessedTimes {
    /// They are left out.
    Leave,
    /// They are in, and their deployment is marked.
    Mark,
}

/// A package that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CamtrapError {
    /// Nobody said where the camera stood.
    #[error(
        "deployment {deployment:?}: a camera trap data package says where a camera stood, and neither the store nor you do: \
         give --latitude and --longitude"
    )]
    Nowhere {
        /// The deployment.
        deployment: String,
    },
    /// The disk does not take it.
    #[error("{}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A deployment so far.
struct Deployment {
    name: String,
    /// Where its first picture that knows it was taken.
    coordinates: Option<[f64; 2]>,
    /// The farthest of its pictures, in metres.
    spread_m: f64,
    start: Time,
    end: Time,
    camera: String,
    has_guessed_times: bool,
}

/// A time as it is written, and in seconds for comparison.
type Time = (i64, String);

/// A package in the making.
pub(super) struct Package {
    folder: PathBuf,
    project: Project,
    media: Table,
    observations: Table,
    deployments: BTreeMap<String, Deployment>,
    methods: BTreeSet<&'static str>,
}

impl Package {
    pub(super) fn create(folder: &Path, project: &Project) -> Result<Package, CamtrapError> {
        let media = folder.join("media");
        std::fs::create_dir_all(&media).map_err(|source| CamtrapError::System { path: media, source })?;
        Ok(Package {
            folder: folder.to_owned(),
            project: project.clone(),
            media: Table::create(folder.join("media.csv"), MEDIA)?,
            observations: Table::create(folder.join("observations.csv"), OBSERVATIONS)?,
            deployments: BTreeMap::new(),
            methods: BTreeSet::new(),
        })
    }

    /// Whether a picture has a time that may stand in the package.
    pub(super) fn takes(&self, known: &Known) -> bool {
        known.taken.is_some() && (known.is_trusted || self.project.guessed_times == GuessedTimes::Mark)
    }

    pub(super) fn add(
        &mut self,
        key: &str,
        pair: &StoredPair,
        picture: &[u8],
        known: &Known,
        texts: &[Text],
    ) -> Result<(), CamtrapError> {
        let taken = known.taken.clone().unwrap_or_default();
        let deployment = self.visit(pair, known, &taken);
        let file = format!("{key}.jpg");
        write(&self.folder.join("media").join(&file), picture)?;
        let method = capture_method(pair.facts.sensor.trigger.as_str());
        self.methods.extend(method);
        let clock = if known.is_trusted { "" } else { "the clock was not set: the time is a guess" };
        let (method, place) = (method.unwrap_or_default(), format!("media/{file}"));
        self.media.row(&[
            ("mediaID", key),
            ("deploymentID", &deployment),
            ("captureMethod", method),
            ("timestamp", &taken),
            ("filePath", &place),
            ("filePublic", "false"),
            ("fileName", &file),
            ("fileMediatype", "image/jpeg"),
            ("mediaComments", clock),
        ])?;
        for (number, text) in texts.iter().map(Some).chain(texts.is_empty().then_some(None)).enumerate() {
            let is_human = text.is_some_and(|text| text.origin == Origin::Human);
            let itm =
                text.and_then(|text| text.itm).map_or_else(String::new, |itm| format!("{:.6}", itm.clamp(0.0, 1.0)));
            self.observations.row(&[
                ("observationID", &format!("{key}-{number}")),
                ("deploymentID", &deployment),
                ("mediaID", key),
                ("eventID", key),
                ("eventStart", &taken),
                ("eventEnd", &taken),
                ("observationLevel", "media"),
                ("observationType", "unclassified"),
                ("classificationMethod", text.map_or("", |_| if is_human { "human" } else { "machine" })),
                ("classifiedBy", &text.map_or_else(String::new, |text| plain(&by(pair, text)))),
                ("classificationProbability", &itm),
                ("observationComments", &text.map_or_else(String::new, |text| plain(text.words.as_str()))),
            ])?;
        }
        Ok(())
    }

    /// Notes that a deployment saw something; gives its name.
    fn visit(&mut self, pair: &StoredPair, known: &Known, taken: &str) -> String {
        let name = pair.facts.place.as_ref().map_or("", |place| place.deployment.as_str());
        let id = if name.is_empty() { "unnamed".to_owned() } else { plain(name) };
        let time: Time = (pair.facts.taken.wall_ms.unwrap_or_default() / 1000, taken.to_owned());
        let deployment = self.deployments.entry(id.clone()).or_insert_with(|| Deployment {
            name: known.place.clone().unwrap_or_default(),
            coordinates: None,
            spread_m: 0.0,
            start: time.clone(),
            end: time.clone(),
            camera: known.camera.clone(),
            has_guessed_times: false,
        });
        if let Some(place) = known.coordinates {
            let first = *deployment.coordinates.get_or_insert(place);
            deployment.spread_m = deployment.spread_m.max(distance_m(first, place));
        }
        deployment.start = time.clone().min(deployment.start.clone());
        deployment.end = time.max(deployment.end.clone());
        deployment.has_guessed_times |= !known.is_trusted;
        id
    }

    pub(super) fn finish(self) -> Result<(), CamtrapError> {
        let Package { folder, project, media, observations, deployments, methods } = self;
        media.finish()?;
        observations.finish()?;
        let mut table = Table::create(folder.join("deployments.csv"), DEPLOYMENTS)?;
        let mut points = Vec::new();
        for (id, deployment) in &deployments {
            let nowhere = || CamtrapError::Nowhere { deployment: id.clone() };
            let [north, east] = deployment.coordinates.or(project.coordinates).ok_or_else(nowhere)?;
            points.push([east, north]);
            let spread = format!("{}", deployment.spread_m.ceil());
            table.row(&[
                ("deploymentID", id),
                ("locationName", &plain(&deployment.name)),
                ("latitude", &north.to_string()),
                ("longitude", &east.to_string()),
                ("coordinateUncertainty", if deployment.spread_m > 0.0 { &spread } else { "" }),
                ("deploymentStart", &deployment.start.1),
                ("deploymentEnd", &deployment.end.1),
                ("cameraID", &plain(&deployment.camera)),
                ("timestampIssues", if deployment.has_guessed_times { "true" } else { "false" }),
                (
                    "deploymentComments",
                    "start and end are those of the pictures; captions by edgeblip are comments of observations",
                ),
            ])?;
        }
        table.finish()?;
        let package = descriptor(&project, &deployments, &points, &methods);
        let package = serde_json::to_vec_pretty(&package).expect("values with names of texts are json");
        write(&folder.join("datapackage.json"), &package)
    }
}

/// Who wrote a text: a person, if the label says who, or a bundle.
fn by(pair: &StoredPair, text: &Text) -> String {
    let wrote = |action: &LabelAction| matches!(action, LabelAction::Add(words) | LabelAction::Rewrite(words) if *words == text.words);
    let (who, kind) = match text.origin {
        Origin::Human => {
            (pair.labels.iter().rev().find(|label| wrote(&label.action)).and_then(|label| label.by.as_ref()), "")
        }
        _ => (text.model.as_ref().or(pair.facts.bundle.as_ref()), "edgeblip bundle "),
    };
    who.map_or_else(String::new, |who| format!("{kind}{who}"))
}

/// Writes a file that is not there, to the disk itself.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CamtrapError> {
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|source| CamtrapError::System { path: path.to_owned(), source })
}

/// The package's own words.
fn descriptor(
    project: &Project,
    deployments: &BTreeMap<String, Deployment>,
    points: &[[f64; 2]],
    methods: &BTreeSet<&'static str>,
) -> Value {
    let resource = |name: &str| {
        json!({
            "name": name, "path": format!("{name}.csv"), "profile": "tabular-data-resource", "format": "csv",
            "mediatype": "text/csv", "encoding": "utf-8", "schema": format!("{SCHEMAS}/{name}-table-schema.json"),
        })
    };
    let resources = ["deployments", "media", "observations"].map(resource);
    let day =
        |time: Option<&Time>| time.map_or_else(String::new, |(_, time)| time.chars().take(10).collect::<String>());
    // The profile wants one; what people ask for themselves is neither, and comes nearer to a time of somebody's choice.
    let methods: Vec<&str> = if methods.is_empty() { vec!["timeLapse"] } else { methods.iter().copied().collect() };
    json!({
        "resources": resources,
        "profile": format!("{SCHEMAS}/camtrap-dp-profile.json"),
        "name": name_of(&project.title),
        "created": project.created,
        "title": project.title,
        "contributors": [{ "title": project.contributor, "role": "contact" }],
        "sources": [{ "title": "edgeblip", "path": env!("CARGO_PKG_REPOSITORY"), "version": env!("CARGO_PKG_VERSION") }],
        "project": {
            "title": project.title, "samplingDesign": project.sampling_design, "captureMethod": methods,
            "individualAnimals": false, "observationLevel": ["media"],
        },
        "spatial": { "type": "MultiPoint", "coordinates": points },
        "temporal": {
            "start": day(deployments.values().map(|deployment| &deployment.start).min()),
            "end": day(deployments.values().map(|deployment| &deployment.end).max()),
        },
        "taxonomic": [],
    })
}

/// A title as a package's name: lower case letters, digits and dashes.
fn name_of(title: &str) -> String {
    let lower = title.to_lowercase();
    let name: String = lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    if name.is_empty() { "camera-trap".to_owned() } else { name }
}

fn capture_method(trigger: &str) -> Option<&'static str> {
    match trigger {
        "interval" => Some("timeLapse"),
        "motion" | "pin" => Some("activityDetection"),
        _ => None,
    }
}

/// Great-circle distance. Source: Sinnott, "Virtues of the haversine", Sky and Telescope 68, 1984.
fn distance_m([north, east]: [f64; 2], [other_north, other_east]: [f64; 2]) -> f64 {
    let half = |one: f64, other: f64| ((other - one).to_radians() / 2.0).sin().powi(2);
    let along = half(east, other_east) * north.to_radians().cos() * other_north.to_radians().cos();
    2.0 * EARTH_M * (half(north, other_north) + along).sqrt().min(1.0).asin()
}

/// A text that no spreadsheet takes for a formula. Source: OWASP, "CSV Injection".
fn plain(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

/// A table of comma-separated values. Source: RFC 4180.
struct Table {
    path: PathBuf,
    file: BufWriter<File>,
    columns: &'static [&'static str],
}

impl Table {
    fn create(path: PathBuf, columns: &'static [&'static str]) -> Result<Table, CamtrapError> {
        let file = File::create_new(&path).map_err(|source| CamtrapError::System { path: path.clone(), source })?;
        let mut table = Table { path, file: BufWriter::new(file), columns };
        table.line(columns)?;
        Ok(table)
    }

    /// Writes a row; columns that have no value stay empty.
    fn row(&mut self, values: &[(&str, &str)]) -> Result<(), CamtrapError> {
        let value = |column: &&str| values.iter().find(|(name, _)| name == column).map_or("", |(_, value)| *value);
        let all: Vec<&str> = self.columns.iter().map(value).collect();
        self.line(&all)
    }

    fn line(&mut self, values: &[&str]) -> Result<(), CamtrapError> {
        let quoted = |value: &&str| {
            let needs = value.contains(['"', ',', '\n', '\r']);
            if needs { format!("\"{}\"", value.replace('"', "\"\"")) } else { (*value).to_owned() }
        };
        let line = values.iter().map(quoted).collect::<Vec<String>>().join(",") + "\r\n";
        let written = self.file.write_all(line.as_bytes());
        written.map_err(|source| CamtrapError::System { path: self.path.clone(), source })
    }

    fn finish(self) -> Result<(), CamtrapError> {
        let Table { path, file, .. } = self;
        let done = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        done.map_err(|source| CamtrapError::System { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_hold_any_text_and_no_formula() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let mut table = Table::create(path.clone(), &["a", "b", "c"]).unwrap();
        table.row(&[("c", &plain("=1+1")), ("a", "one, \"two\"")]).unwrap();
        table.finish().unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "a,b,c\r\n\"one, \"\"two\"\"\",,'=1+1\r\n");
    }

    #[test]
    fn names_and_distances() {
        assert_eq!(name_of("Owls of the Nest (2026)"), "owls-of-the-nest-2026");
        assert_eq!(name_of("猫"), "camera-trap");
        // A degree of latitude.
        assert!((distance_m([52.0, 13.0], [53.0, 13.0]) - 111_195.0).abs() < 1.0);
        assert_eq!(distance_m([52.0, 13.0], [52.0, 13.0]), 0.0);
    }
}
