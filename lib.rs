//! A compiler for building language models from scratch.
