"""Small pre-trained causal LMs that come with the package, in Hugging Face format."""
