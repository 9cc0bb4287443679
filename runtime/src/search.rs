//! Finds the pictures that match a text: ITC goes through all of them, ITM ranks the nearest again.

use blip::pixels::Rgb8;

use crate::inference::InferenceError;
use crate::matcher::{Embedding, MatchError};
use crate::model::{Model, ModelError};
use picture::PictureError;

/// A search that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The bundle has no matcher.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The text or a picture cannot be scored.
    #[error(transparent)]
    Match(#[from] MatchError),
    /// A picture's features cannot be computed.
    #[error(transparent)]
    Inference(#[from] InferenceError),
    /// A picture that was there is not any more.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// A picture that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its number, in the order in which pictures were added.
    pub index: usize,
    /// ITM probability.
    pub itm: f32,
    /// ITC cosine.
    pub itc: f32,
}

impl Hit {
    /// What pictures are ranked by. Source: BLIP `train_retrieval.py`, `evaluation` (the sum of both scores).
    pub fn score(&self) -> f32 {
        self.itm + self.itc
    }
}

/// Vectors of pictures.
pub struct Gallery<'a> {
    model: &'a Model,
    vectors: Vec<Embedding>,
}

impl<'a> Gallery<'a> {
    /// An empty gallery.
    ///
    /// # Errors
    /// A model without a matcher.
    pub fn new(model: &'a Model) -> Result<Gallery<'a>, SearchError> {
        model.matcher()?;
        Ok(Gallery { model, vectors: Vec::new() })
    }

    /// Adds a picture: its ITC vector is kept, its features are not.
    ///
    /// # Errors
    /// A graph that stops.
    pub fn add(&mut self, picture: &Rgb8) -> Result<(), SearchError> {
        let view = self.model.see(picture)?;
        self.vectors.push(self.model.matcher()?.embed_image(&view)?);
        Ok(())
    }

    /// The `top` pictures nearest to `text` by ITC, ranked by the sum of ITM and ITC; `open` brings a picture again.
    ///
    /// # Errors
    /// A text that the model has no room for, a picture that cannot be brought, or a graph that stops.
    pub fn search(
        &self,
        text: &str,
        top: usize,
        open: impl Fn(usize) -> Result<Rgb8, PictureError>,
    ) -> Result<Vec<Hit>, SearchError> {
        let matcher = self.model.matcher()?;
        let wanted = matcher.embed_text(text)?;
        let cosine = |(index, vector): (usize, &Embedding)| Hit { index, itm: 0.0, itc: vector.cosine(&wanted) };
        let mut hits: Vec<Hit> = self.vectors.iter().enumerate().map(cosine).collect();
        hits.sort_by(|left, right| right.itc.total_cmp(&left.itc));
        hits.truncate(top);
        for hit in &mut hits {
            let mut view = self.model.see(&open(hit.index)?)?;
            hit.itm = matcher.match_probability(&mut view, text)?;
        }
        hits.sort_by(|left, right| right.score().total_cmp(&left.score()));
        Ok(hits)
    }
}
