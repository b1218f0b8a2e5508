"""How scanners measure: linear operators, geometry, noise and preprocessing that is physics."""
