//! Scores of captions, retrieval, answers and matching.
