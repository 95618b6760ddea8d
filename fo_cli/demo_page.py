def spoken_line(row):
    return f"{row['text']}  heard: {row['heard']}  answer: {row['answer']}"
def write(steps,cfg,rows,wall,cpu):
    import json
    for m in sorted((steps.out/"steps").glob("*.json"), key=lambda p:p.stat().st_mtime):
        r=json.load(open(m)); print(r["name"], r["seconds"], r["processor_seconds"], r["peak_memory_mb"], r.get("metrics"), r.get("scores"))
    return [f"{wall} {cpu}"]
