"""JSON over HTTP of the CPO's own making: no code per CPO, its file says where things stand."""
