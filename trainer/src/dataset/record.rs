//! What a row says about a picture: the fields that all formats share.

use serde_json::{Map, Value};

use super::{Answer, Origin, Question, Text};

/// A row, less its picture.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) key: Option<String>,
    pub(super) image_id: Option<String>,
    pub(super) texts: Vec<Text>,
    pub(super) questions: Vec<Question>,
    pub(super) truth: Option<Value>,
}

/// Names under which a text stands, the first that is there.
pub(super) const TEXT_FIELDS: [&str; 4] = ["texts", "text", "caption", "captions"];
/// The weight of Visual Genome's single answers. Source: BLIP `data/vqa_dataset.py`.
const GENOME_WEIGHT: f32 = 0.2;

impl Record {
    /// Reads a row. A missing text is no fault; one of another kind is, and the reason says so.
    pub(super) fn read(mut row: Map<String, Value>, origin: Origin) -> Result<Record, String> {
        let texts = texts(&mut row, origin)?;
        let questions = question(&mut row)?.into_iter().collect();
        let key = match row.remove("key") {
            Some(Value::String(key)) if !key.is_empty() => Some(key),
            _ => None,
        };
        let image_id = match row.remove("image_id") {
            Some(Value::String(id)) => Some(id),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        let truth = row.remove("truth").filter(|truth| !truth.is_null()).map(unpacked);
        Ok(Record { key, image_id, texts, questions, truth })
    }
}

/// Tables keep the truth as the text of a json.
fn unpacked(truth: Value) -> Value {
    let inner = truth.as_str().and_then(|text| serde_json::from_str(text).ok());
    inner.unwrap_or(truth)
}

fn texts(row: &mut Map<String, Value>, origin: Origin) -> Result<Vec<Text>, String> {
    let Some(field) = TEXT_FIELDS.into_iter().find(|field| row.get(*field).is_some_and(|value| !value.is_null()))
    else {
        return Ok(Vec::new());
    };
    let found = match row.remove(field) {
        Some(Value::Array(found)) => found,
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let fault = || format!("{field} is neither a text nor a list of texts");
    let (origins, scores) = (row.remove("origin"), row.remove("score"));
    let mut texts = Vec::with_capacity(found.len());
    for (index, value) in found.into_iter().enumerate() {
        let (text, own_origin, own_score) = match value {
            Value::String(text) => (text, None, None),
            Value::Object(mut own) => {
                let Some(Value::String(text)) = own.remove("text") else { return Err(fault()) };
                (text, own.remove("origin"), own.remove("score"))
            }
            Value::Null => continue,
            _ => return Err(fault()),
        };
        let origin = own_origin.as_ref().or(part(origins.as_ref(), index)).map_or(Ok(origin), read_origin)?;
        let score = own_score.as_ref().or(part(scores.as_ref(), index)).and_then(Value::as_f64);
        texts.push(Text { text, origin, score: score.map(|score| score as f32) });
    }
    Ok(texts)
}

/// One of a list, or what holds for all.
fn part(value: Option<&Value>, index: usize) -> Option<&Value> {
    match value {
        Some(Value::Array(values)) => values.get(index),
        value => value,
    }
    .filter(|value| !value.is_null())
}

fn read_origin(value: &Value) -> Result<Origin, String> {
    match value.as_str() {
        Some("human") => Ok(Origin::Human),
        Some("web") => Ok(Origin::Web),
        Some("synthetic") => Ok(Origin::Synthetic),
        _ => Err(format!("origin is {value}, not human, web or synthetic")),
    }
}

/// Source: BLIP `data/vqa_dataset.py`, `vqa_dataset.__getitem__`: a list is weighed by how often each answer is in it,
/// Visual Genome's answer by 0.2.
fn question(row: &mut Map<String, Value>) -> Result<Option<Question>, String> {
    let text = match row.remove("question") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err("question is not a text".to_owned()),
    };
    let is_genome = row.get("dataset").and_then(Value::as_str) == Some("vg");
    let answers = match row.remove("answer").or_else(|| row.remove("answers")) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(given)) => weighed(given)?,
        Some(one) => vec![Answer { text: answer(one)?, weight: if is_genome { GENOME_WEIGHT } else { 1.0 } }],
    };
    let id = row.remove("question_id").as_ref().and_then(Value::as_u64);
    Ok(Some(Question { text, id, answers }))
}

fn weighed(given: Vec<Value>) -> Result<Vec<Answer>, String> {
    let share = 1.0 / given.len() as f64;
    let mut counted: Vec<(String, f64)> = Vec::new();
    for text in given {
        let text = answer(text)?;
        match counted.iter_mut().find(|(known, _)| *known == text) {
            Some((_, weight)) => *weight += share,
            None => counted.push((text, share)),
        }
    }
    Ok(counted.into_iter().map(|(text, weight)| Answer { text, weight: weight as f32 }).collect())
}

/// A text, or VQA v2's own `{"answer": text}`.
fn answer(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Object(mut own) => match own.remove("answer") {
            Some(Value::String(text)) => Ok(text),
            _ => Err("an answer is not a text".to_owned()),
        },
        _ => Err("an answer is not a text".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(row: Value) -> Result<Record, String> {
        Record::read(row.as_object().unwrap().clone(), Origin::Web)
    }

    #[test]
    fn texts_come_alone_in_lists_and_with_fields_of_their_own() {
        let one = read(json!({"text": "a cat", "origin": "human", "score": 0.5})).unwrap().texts;
        assert_eq!(one, [Text { text: "a cat".to_owned(), origin: Origin::Human, score: Some(0.5) }]);
        let list = json!({"caption": ["a", "b"], "origin": ["synthetic", null], "score": [null, 0.25]});
        let texts = read(list).unwrap().texts;
        assert_eq!(texts[0], Text { text: "a".to_owned(), origin: Origin::Synthetic, score: None });
        assert_eq!(texts[1], Text { text: "b".to_owned(), origin: Origin::Web, score: Some(0.25) });
        let own = read(json!({"texts": [{"text": "c", "origin": "human"}], "caption": "no"})).unwrap().texts;
        assert_eq!(own, [Text { text: "c".to_owned(), origin: Origin::Human, score: None }]);
    }

    #[test]
    fn text_of_another_kind_is_named() {
        for row in [json!({"text": 3}), json!({"caption": [["a"]]}), json!({"text": "a", "origin": "robot"})] {
            assert!(read(row).is_err());
        }
    }

    #[test]
    fn answers_weigh_as_the_authors_say() {
        let row = json!({"question": "how many?", "answer": ["2", "3", "2", "2"], "dataset": "vqa", "question_id": 7});
        let questions = read(row).unwrap().questions;
        let expected = [("2", 0.75), ("3", 0.25)].map(|(text, weight)| Answer { text: text.to_owned(), weight });
        assert_eq!((questions[0].id, &questions[0].answers[..]), (Some(7), &expected[..]));
        let genome = read(json!({"question": "what?", "answer": "grass", "dataset": "vg"})).unwrap();
        assert_eq!(genome.questions[0].answers, [Answer { text: "grass".to_owned(), weight: 0.2 }]);
    }
}
