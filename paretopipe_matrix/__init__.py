"""The controller: spec -> cells -> schedule -> run -> store, and the pp-matrix command."""
