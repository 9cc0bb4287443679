//! Short programs on the edgeblip library.
