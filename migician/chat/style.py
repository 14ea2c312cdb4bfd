"""The page's CSS, and the scripts that draw a region on an image and insert it into the question."""

from __future__ import annotations

CSS = """
.gradio-container {width: 100%; max-width: 1240px !important; margin: 0 auto !important;}
footer {display: none !important;}
.mg-strip {display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-start;}
.mg-strip figure {margin: 0; flex: 0 1 auto; max-width: 100%;}
.mg-strip img {display: block; max-width: 100%; max-height: 236px; border-radius: 6px;}
.mg-many {display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr));}
.mg-strip figcaption {font-size: .8rem; padding: 2px 0;}
#mg-live:not(:has(.mg-talk)), #mg-status:not(:has(.mg-line)), #mg-transcript:not(:has(.mg-said)) {display: none;}
.mg-shot .mg-frame {position: relative; display: inline-block; cursor: crosshair; touch-action: none;
  user-select: none; overflow: hidden;}
.mg-band {position: absolute; border: 3px solid #0072B2; outline: 1px solid #fff; pointer-events: none;
  background: rgba(0, 114, 178, .15);}
.mg-talk {display: flex; flex-direction: column; gap: 10px;}
.mg-said {border-radius: 10px; padding: 8px 12px; max-width: 92%; overflow-wrap: anywhere;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary);}
.mg-said > div {white-space: pre-wrap;}
.mg-said b {font-size: .75rem;}
.mg-you {align-self: flex-end;}
.mg-talk > .mg-boxes {margin: 0 0 8px; padding: 0; list-style: none; font-size: .85rem;}
.mg-empty {padding: 18px; border: 1px dashed var(--border-color-primary);
  border-radius: 8px;}
.mg-line {margin: 0; white-space: pre-line; overflow-wrap: anywhere;}
.mg-bad {color: var(--error-text-color); border-left: 4px solid #D55E00; padding-left: 8px;}
button:focus-visible, textarea:focus-visible, input:focus-visible {outline: 3px solid #0072B2 !important;
  outline-offset: 1px;}
"""

# Characters are code points in Python and UTF-16 units in JavaScript.
CURSOR = """(region, question, cursor, ...others) => {
  const field = document.querySelector('#mg-question textarea');
  return [region, question, [...field.value.slice(0, field.selectionEnd)].length, ...others];
}"""
"""The cursor's position in the question, sent with the click."""

MOVE_CURSOR = """cursor => requestAnimationFrame(() => {
  const field = document.querySelector('#mg-question textarea');
  const place = [...field.value].slice(0, cursor).join('').length;
  field.focus();
  field.setSelectionRange(place, place);
})"""
"""Moves the cursor back into the question, after the inserted text."""

HEAD = """<script>
(() => {
  let shot = null, from = null, band = null;
  const at = (event, box) => [event.clientX - box.left, event.clientY - box.top].map(
    (value, axis) => Math.min(Math.max(value / (axis ? box.height : box.width), 0), 1));
  const corners = event => {
    const to = at(event, shot.getBoundingClientRect());
    return [0, 1].map(i => Math.min(from[i], to[i])).concat([0, 1].map(i => Math.max(from[i], to[i])));
  };
  document.addEventListener('pointerdown', event => {
    const frame = event.target.closest && event.target.closest('.mg-shot .mg-frame');
    if (!frame || event.button) return;
    event.preventDefault();
    document.querySelectorAll('.mg-band').forEach(old => old.remove());
    shot = frame; from = at(event, frame.getBoundingClientRect());
    band = document.createElement('div'); band.className = 'mg-band'; frame.append(band);
  });
  document.addEventListener('pointermove', event => {
    if (!shot) return;
    const [left, top, right, bottom] = corners(event).map(value => value * 100);
    Object.assign(band.style, {left: left + '%', top: top + '%',
      width: (right - left) + '%', height: (bottom - top) + '%'});
  });
  document.addEventListener('pointercancel', () => { if (band) band.remove(); shot = null; });
  document.addEventListener('pointerup', event => {
    if (!shot) return;
    const [left, top, right, bottom] = corners(event).map(value => Math.round(value * 1000));
    const number = shot.closest('.mg-shot').dataset.number;
    shot = null;
    if (right - left < 5 || bottom - top < 5) { band.remove(); return; }
    const field = document.querySelector('#mg-region textarea, #mg-region input');
    field.value = `${number}: ${left}, ${top}, ${right}, ${bottom}`;
    field.dispatchEvent(new Event('input', {bubbles: true}));
  });
})();
</script>"""
