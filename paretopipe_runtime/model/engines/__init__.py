"""How a stage computes: one module per engine, all behind `base.Engine`; `registry` knows them by name."""
