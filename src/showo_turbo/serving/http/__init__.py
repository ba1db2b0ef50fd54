"""The HTTP interface, in the shapes of OpenAI's API.

application    the application: routes, documentation, what they share
gate           keys, limits and the access log, before a request is read
image_routes   POST /v1/images/generations, /v1/images/edits
chat_routes    POST /v1/chat/completions
model_routes   GET /v1/models, /health, /ready, /metrics
listener       the socket, and an orderly end
bodies         fields of the requests, derived from the declared options
forms          forms, held in memory
images_in      images that clients send
image_costs    sizes and costs of requests that draw
remote_images  images that clients name by address
error_bodies   errors
keys           API keys
metrics        measurements for Prometheus
page_routes    the page: /app/draw, /app/ask, /app/edit
page_info      what the page needs to know of models and options
page_files     its files

Libraries of the `serve` extra are imported where they are used, so all modules import without them.
"""
