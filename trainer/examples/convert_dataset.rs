//! Copies a dataset into another format: `convert_dataset FROM FOLDER image-folder|web-dataset|blip-json|coco-json|parquet`.

use std::error::Error;
use std::path::Path;

use edgeblip_trainer::dataset::write::{DatasetWriter, WriteOptions};
use edgeblip_trainer::dataset::{Dataset, DatasetOptions, Format, Pair};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, folder, format] = &arguments[..] else {
        return Err("usage: convert_dataset FROM FOLDER FORMAT".into());
    };
    let format: Format = serde_json::from_value(format.as_str().into())?;
    let dataset = Dataset::open(from, &DatasetOptions::default())?;
    let mut writer = DatasetWriter::create(Path::new(folder), format, &WriteOptions::default())?;
    for (index, entry) in dataset.entries().iter().enumerate() {
        let (key, texts, truth) = (entry.key.clone(), entry.texts.clone(), entry.truth.clone());
        writer.add(&Pair { key, picture: dataset.picture_bytes(index)?, texts, truth })?;
    }
    writer.finish()?;
    println!("{} pictures; {} skipped", dataset.len(), dataset.skipped().count());
    Ok(())
}
