/** Lengths as the product rounds them: half-up on the decimal number that is shown (lungscreen/assess/rounding.py). */

/** @param {number} mm @returns {number} whole tenths of a mm */
export function tenths(mm) {
  const text = String(Math.abs(mm));
  if (text.includes("e")) return Math.round(mm * 10); // below 1e-6 or beyond any patient
  const [whole, part = ""] = text.split(".");
  return Number(whole) * 10 + Number(part[0] ?? 0) + (Number(part[1] ?? 0) >= 5 ? 1 : 0);
}

/** Mean of both axes: each to one decimal, then the mean to one decimal (Lung-RADS v2022 note 4). @param {number} long @param {number} short @returns {number} mm */
export const meanDiameter = (long, short) => Math.floor((tenths(long) + tenths(short) + 1) / 2) / 10;

/** @param {number} mm @returns {number} to 0.1 mm */
export const toTenth = (mm) => tenths(mm) / 10;

/** @param {number} mm @returns {string} */
export const inMm = (mm) => `${(tenths(mm) / 10).toFixed(1)} mm`;
