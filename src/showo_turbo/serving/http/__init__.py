"""The HTTP interface, in the shapes of OpenAI's API. Importing it needs the libraries of the `serve` extra.

application    the application: all routes, and how errors are answered
gate           keys, limits and the access log, before a request is read
server         what all routes share
image_routes   POST /v1/images/generations, /v1/images/edits
chat_routes    POST /v1/chat/completions
chat_messages  the content of its messages
model_routes   GET /v1/models, /health, /ready, /metrics
page_routes    the page: /app/draw, /app/ask, /app/edit
page_info      what the page shows of models and options
page_files     its files
bodies         fields of the requests, derived from the declared options
forms          forms, held in memory
streams        reading bodies, and server-sent events
images_in      images that clients send
image_costs    sizes and costs of requests that draw
remote_images  images that clients name by address
error_bodies   errors
keys           API keys
metrics        measurements for Prometheus
listener       the socket, and an orderly end
"""
