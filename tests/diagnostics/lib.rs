//! Nothing: the fixtures are what is here.
