"""Small operators, priors and problems with known answers, shared by the tests."""
