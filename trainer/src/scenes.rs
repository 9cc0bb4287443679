//! Composed pictures with known captions: objects, counts, relations, backgrounds, light.
