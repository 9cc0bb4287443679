//! The shapes of operations. A buffer knows only its length; these say how it is laid out.

/// `[rows, inputs]` times the transpose of `[outputs, inputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinearShape {
    /// Rows of the input.
    pub rows: usize,
    /// Columns of the input.
    pub inputs: usize,
    /// Columns of the output.
    pub outputs: usize,
}

/// Rows of equal width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowsShape {
    /// Number of rows.
    pub rows: usize,
    /// Values in a row.
    pub width: usize,
}

/// `[batch, tokens, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokensShape {
    /// Number of sequences.
    pub batch: usize,
    /// Tokens in each.
    pub tokens: usize,
    /// Values in a token.
    pub width: usize,
}

impl TokensShape {
    /// The same values as rows.
    pub fn rows(&self) -> RowsShape {
        RowsShape { rows: self.batch * self.tokens, width: self.width }
    }

    /// Number of values.
    pub fn length(&self) -> usize {
        self.batch * self.tokens * self.width
    }
}

/// Rows of tokens that grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppendShape {
    /// Rows of the result.
    pub rows: usize,
    /// Tokens that each row has.
    pub before: usize,
    /// Tokens that each row gets.
    pub added: usize,
    /// Values in a token.
    pub width: usize,
}

/// Which keys a query may read, besides those within its sequence's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Every key.
    Free,
    /// Keys up to the query's own place.
    Causal,
}

/// One multi-head attention: softmax(q kᵀ / √head width) v.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttentionShape {
    /// Number of sequences.
    pub batch: usize,
    /// Heads; divides `width`.
    pub heads: usize,
    /// Width of all heads together.
    pub width: usize,
    /// Tokens that ask.
    pub queries: usize,
    /// Tokens that are read.
    pub keys: usize,
    /// Who reads whom.
    pub order: Order,
}

/// Pixels `[batch, 3, side, side]` cut into square patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PatchesShape {
    /// Number of pictures.
    pub batch: usize,
    /// Side of a picture, in pixels; a multiple of `patch`.
    pub side: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
}

/// Which direction hard negatives are drawn in; part of the randomness' key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A picture for each text.
    PictureForText = 0,
    /// A text for each picture.
    TextForPicture = 1,
}

/// What a draw of hard negatives needs.
pub struct NegativesShape {
    /// Rows of the similarities: this rank's samples.
    pub rows: usize,
    /// Columns in a row.
    pub columns: usize,
    /// Columns that may be drawn, from the first: the samples of all ranks. The others are the queue.
    pub candidates: usize,
    /// Global index of the first row, which is also its own column.
    pub first: usize,
    /// Which draw this is.
    pub direction: Direction,
}
