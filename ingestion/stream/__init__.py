"""Feeds that speak by themselves over a connection that we hold: WebSocket and Server-Sent Events."""
